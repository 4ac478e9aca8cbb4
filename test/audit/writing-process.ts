// Records decisions as fast as it can and prints the id of each one that is on disk, until it is killed.
import { decision, openLog } from './audit-fixture.ts';

const [directory, url] = process.argv.slice(2);
const log = await openLog(directory!, { database: { url: url! } });
for (let number = 1; ; number += 32) {
  const group = Array.from({ length: 32 }, (_, index) => log.record(decision(number + index)));
  for (const { event_id: id } of await Promise.all(group)) process.stdout.write(`${id}\n`);
}
