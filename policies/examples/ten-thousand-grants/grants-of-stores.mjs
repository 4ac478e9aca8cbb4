// Writes sallyport/grants/data.json: one grant for each of ten thousand stores.
//   node grants-of-stores.mjs [COUNT]
import { writeFileSync } from 'node:fs';

const count = Number(process.argv[2] ?? 10_000);
const principals = {};
for (let number = 1; number <= count; number += 1) {
  const store = `store-${String(number).padStart(5, '0')}`;
  principals[store] = [
    {
      id: `${store}-stock`,
      owner: 'retail-it@example.com',
      ticket: 'SEC-91',
      expires: '2028-01-01',
      target: { host: 'stock.corp.example', port: 5432 },
      sources: [`10.${128 + (number >> 8)}.${number & 255}.0/24`],
    },
  ];
}
const file = new URL('sallyport/grants/data.json', import.meta.url);
writeFileSync(file, `${JSON.stringify({ 'stock-db': principals }, null, 1)}\n`);
console.log(`${count} grants`);
