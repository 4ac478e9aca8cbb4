import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Designated, parseDesignated } from '../../../src/policy/managed/designated.ts';

const bound = (...entries: string[]): Designated => new Designated(entries.map(parseDesignated));

test('a name is bound to its port, in any case and with or without the dot of the root', () => {
  const one = bound('DB.internal:5432');
  assert.equal(one.has('db.internal', 5432, '10.1.2.3'), true);
  assert.equal(one.has('db.INTERNAL.', 5432, '10.1.2.3'), true);
  assert.equal(one.has('db.internal', 5433, '10.1.2.3'), false);
  assert.equal(one.has('other.internal', 5432, '10.1.2.3'), false);
  assert.equal(one.has('db.internal.evil.example', 5432, '10.1.2.3'), false);
});

test('a network is bound by the resolved address, whatever the name', () => {
  const one = bound('10.1.0.0/16:5432', '192.0.2.7:5432', '[fd00::/8]:5432', '[2001:db8::]/33:5432');
  for (const [address, expected] of [
    ['10.1.255.255', true],
    ['10.2.0.0', false],
    ['192.0.2.7', true],
    ['192.0.2.8', false],
    ['::ffff:10.1.2.3', true],
    ['fdff::1', true],
    ['fe00::1', false],
    ['2001:db8:7fff::1', true],
    ['2001:db8:8000::1', false],
    ['not an address', false],
  ] as const) {
    assert.equal(one.has('any.example', 5432, address), expected, address);
  }
  assert.equal(one.has('any.example', 1, '10.1.2.3'), false);
});

test('an address is no name: a target called like a network is not in it', () => {
  assert.equal(bound('10.1.2.3:5432').has('10.1.2.3', 5432, '10.9.9.9'), false);
  assert.equal(bound('[fd00::1]:22').has('fd00::1', 22, 'fd00::1'), true);
});

test('an empty list designates nothing', () => {
  assert.equal(bound().has('db.internal', 5432, '10.1.2.3'), false);
});

test('what could be read in two ways, or matches nothing, is refused', () => {
  for (const [text, why] of [
    ['db.internal', /write name:port/],
    ['db.internal:0', /port 0 is none/],
    ['10.0.0.0/8:0', /port 0 is none/],
    ['db.internal:70000', /at most 65535/],
    ['10.0.0.0/8:70000', /at most 65535/],
    ['10.1.2.3/16:5432', /bits behind the prefix length 16 are set/],
    ['10.0.0.0/33:5432', /no prefix length \(0 to 32\)/],
    ['10.0.0.0/:5432', /no prefix length/],
    ['10.0.0.0/8/8:5432', /no prefix length/],
    ['[fd00::/129]:5432', /no prefix length \(0 to 128\)/],
    ['[::ffff:10.0.0.0/104]:5432', /IPv4-mapped/],
    ['10.1.2:5432', /neither an address nor a name/],
    ['10.1.2.300:5432', /neither an address nor a name/],
    ['*.internal:5432', /neither a name nor an address/],
    ['corp/8:5432', /is not an ip address/],
  ] as const) {
    assert.throws(() => parseDesignated(text), { code: 'ERR_POLICY_ADDRESS', message: why }, text);
  }
});
