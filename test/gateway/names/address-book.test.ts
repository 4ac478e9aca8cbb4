import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type AddressBook,
  addressBookSchema,
  assignAddresses,
  EMPTY_BOOK,
  FREED_KEPT_MS,
} from '../../../src/gateway/names/address-book.ts';
import { isNameAddress, NAME_ADDRESSES, nameAddress, nameSink } from '../../../src/runtime/index.ts';

const addressesOf = (book: AddressBook): Record<string, string> =>
  Object.fromEntries(
    book.hosts.filter((entry) => entry.freed_at === undefined).map(({ host, address }) => [host, address]),
  );

const NOW_MS = Date.UTC(2026, 0, 1);
const NONE: ReadonlySet<string> = new Set();
/** Every host would like to begin at the same address. */
const crowded = (): number => 7;

const assign = (book: AddressBook, hosts: readonly string[], nowMs = NOW_MS): AddressBook =>
  assignAddresses(book, hosts, NONE, nowMs, crowded);

test('the addresses are those of 127.77.0.0/16 without the octets that look like a network', () => {
  assert.equal(nameAddress(0), '127.77.0.1');
  assert.equal(nameAddress(253), '127.77.0.254');
  assert.equal(nameAddress(254), '127.77.1.1');
  assert.equal(nameAddress(NAME_ADDRESSES - 1), '127.77.255.254');
  assert.equal(nameSink('127.77.1.2'), 'fe80::7f4d:102');
  for (const own of ['127.77.0.0', '127.77.255.255', 'fe80::7f4d:102']) assert.ok(isNameAddress(own), own);
  for (const other of ['127.76.255.255', '127.78.0.0', '::1', 'fe80::1', 'db'])
    assert.ok(!isNameAddress(other), other);
});

test('a host has the same address on every machine', () => {
  const one = assignAddresses(EMPTY_BOOK, ['sql01.corp.example'], NONE, NOW_MS);
  assert.deepEqual(addressesOf(one), { 'sql01.corp.example': '127.77.255.206' });
});

test('a host keeps its address whatever comes and goes beside it, and two never share one', () => {
  const hosts = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', '__proto__', 'constructor'));
  fc.assert(
    fc.property(fc.array(hosts, { maxLength: 12 }), (steps) => {
      let book = EMPTY_BOOK;
      const first = new Map<string, string>();
      for (const step of steps) {
        book = addressBookSchema.parse(JSON.parse(JSON.stringify(assign(book, step))));
        assert.deepEqual(Object.keys(addressesOf(book)).sort(), [...step].sort());
        for (const [host, address] of Object.entries(addressesOf(book))) {
          assert.equal(first.get(host) ?? address, address, `${host} moved`);
          first.set(host, address);
        }
        assert.equal(new Set(first.values()).size, first.size);
      }
    }),
  );
});

test('the order in which a configuration names hosts says nothing', () => {
  assert.deepEqual(assign(EMPTY_BOOK, ['b', 'a', 'c']), assign(EMPTY_BOOK, ['c', 'b', 'a']));
});

test('a freed address is nobody else’s for thirty days, and its host gets it back', () => {
  const book = assign(EMPTY_BOOK, ['a']);
  const freed = assign(book, []);
  assert.deepEqual(freed.hosts, [
    { host: 'a', address: nameAddress(7), freed_at: '2026-01-01T00:00:00.000Z' },
  ]);
  const later = assign(freed, ['b'], NOW_MS + FREED_KEPT_MS - 1);
  assert.equal(addressesOf(later)['b'], nameAddress(8));
  assert.equal(assign(later, ['a', 'b'], NOW_MS + FREED_KEPT_MS).hosts[0]?.address, nameAddress(7));
  const over = assign(freed, ['b'], NOW_MS + FREED_KEPT_MS);
  assert.deepEqual(over.hosts, [{ host: 'b', address: nameAddress(7) }]);
});

test('what others on the machine have is passed over; beyond the last address comes the first', () => {
  const taken = new Set([nameAddress(NAME_ADDRESSES - 1), nameAddress(0)]);
  const book = assignAddresses(EMPTY_BOOK, ['a'], taken, NOW_MS, () => NAME_ADDRESSES - 1);
  assert.equal(addressesOf(book)['a'], nameAddress(1));
});

test('when every address is taken, that is said', () => {
  const taken = new Set(Array.from({ length: NAME_ADDRESSES }, (_, index) => nameAddress(index)));
  assert.throws(() => assignAddresses(EMPTY_BOOK, ['a'], taken, NOW_MS), {
    code: 'ERR_GATEWAY_STATE',
    message: `all ${NAME_ADDRESSES} addresses for names are taken`,
  });
});

test('a book with a foreign address, or with one host or address twice, is none', () => {
  const books = [
    [{ host: 'a', address: '10.0.0.1' }],
    [{ host: 'a', address: 'fe80::7f4d:102' }],
    [
      { host: 'a', address: nameAddress(1) },
      { host: 'b', address: nameAddress(1) },
    ],
    [
      { host: 'a', address: nameAddress(1) },
      { host: 'a', address: nameAddress(2) },
    ],
  ];
  for (const hosts of books) assert.equal(addressBookSchema.safeParse({ version: 1, hosts }).success, false);
});
