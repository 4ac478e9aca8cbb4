import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from '../../src/policy/index.ts';
import { compileOrders, keyOf, openGuard, openHost, rawBundle, streamInput } from './support.ts';

/** What stands for an expiry and is none: other notations, impossible days, hidden signs, other types. */
const MALFORMED = [
  '31.12.2027',
  '12/31/2027',
  '2027-12-31T10:00:00',
  '2027-12-31T10:00:00+01:00',
  '2027-12-31T10:00:00.5Z',
  '2027-12-31t10:00:00z',
  '2027-12-31 10:00:00Z',
  '2027-12-31T24:00:00Z',
  '2027-12-31T10:60:00Z',
  '2027-02-29',
  '2027-04-31',
  '2100-02-29',
  '2028-02-30T00:00:00Z',
  '2027-12-00',
  '2027-13-01',
  '2027-00-10',
  '2027-1-1',
  '27-12-31',
  '20271231',
  '+2027-12-31',
  '٢٠٢٧-١٢-٣١',
  '2027\u201112\u201131',
  ' 2027-12-31',
  '2027-12-31\n',
  'Never',
  'NEVER',
  'never ',
  '',
  'tomorrow',
] as const;
const OTHER_TYPES = ['1830211200', '2027', 'true', 'null', '[2027-12-31]', '{on: 2027-12-31}'] as const;

const rule = (id: string, custom: string): string => `
# METADATA
# title: A rule of somebody careless
# custom: {id: ${id}${custom}}
stream["orders-db"] contains rego.metadata.rule() if input.key.principal == "${id}"
`;

test('a rule without owner or expiry, or with a date that is none, never allows', async (t) => {
  const customs = [
    ', expires: never',
    ', owner: "", expires: never',
    ', owner: [o], expires: never',
    ', owner: o',
    ...MALFORMED.map((text) => `, owner: o, expires: ${JSON.stringify(text)}`),
    ...OTHER_TYPES.map((text) => `, owner: o, expires: ${text}`),
  ];
  const rules = customs.map((custom, index) => rule(`r${String(index)}`, custom)).join('');
  const good = rule('good', ', owner: o, expires: "2027-12-31"');
  const leap =
    rule('leap', ', owner: o, expires: "2028-02-29"') + rule('age', ', owner: o, expires: "2400-02-29"');
  const rego = `package sallyport.allow\n${rules}${good}${leap}`;
  const files = { 'sallyport/allow/careless.rego': rego, 'vectors/orders.yaml': '[]' };
  const host = await openHost(t, await compileOrders(t, files));
  const ask = (id: string) => decide(host, streamInput({ key: keyOf(id) }), openGuard);
  for (const id of ['good', 'leap', 'age']) assert.equal((await ask(id)).allow, true, 'a rule in order does');
  for (const [index, custom] of customs.entries()) {
    const { allow, decided_by: by, reasons } = await ask(`r${String(index)}`);
    assert.deepEqual([allow, by], [false, 'policy'], custom);
    const args = reasons.find(({ code }) => code === 'rule_invalid')?.args;
    assert.match(String(args?.['member']), /^(owner|expires)$/, `${custom}: ${JSON.stringify(reasons)}`);
    assert.match(String(args?.['expected']), /^a (text|date, a UTC second or never)$/, custom);
  }
});

test('limits that cannot be kept are named with what they should be, and deny', async (t) => {
  const order = 'one of idle_seconds, max_bytes, max_seconds, max_streams_per_principal, recheck_seconds';
  const whole = 'a positive whole number';
  const customs: readonly (readonly [string, string, string])[] = [
    ['{max_second: 3}', 'limits.max_second', order],
    ['{max_seconds: 0}', 'limits.max_seconds', whole],
    ['{max_seconds: 1.5}', 'limits.max_seconds', whole],
    ['{max_seconds: 1h}', 'limits.max_seconds', whole],
    ['60', 'limits', 'names and positive whole numbers'],
  ];
  const rules = customs.map(([limits], index) =>
    rule(`r${String(index)}`, `, owner: o, expires: never, limits: ${limits}`),
  );
  // A limits rule of the same limits, for one stream each, beside a rule that would allow it.
  const capped = [...customs.map(([limits]) => limits), '{}'].map((limits, index) => {
    const id = `c${String(index)}`;
    const cap = `limits["orders-db"] contains rego.metadata.rule() if input.key.principal == "${id}"`;
    return `${rule(id, ', owner: o, expires: never')}
# METADATA
# title: A limit of somebody careless
# custom: {id: cap-${id}, owner: o, limits: ${limits}}
${cap}
`;
  });
  const rego = `package sallyport.allow\n${rules.join('')}${capped.join('')}`;
  const files = { 'sallyport/allow/careless.rego': rego, 'vectors/orders.yaml': '[]' };
  const host = await openHost(t, await compileOrders(t, files));
  const askFor = async (id: string, wanted: string) => {
    const { allow, reasons } = await decide(host, streamInput({ key: keyOf(id) }), openGuard);
    return { allow, args: reasons.find(({ code }) => code === wanted)?.args };
  };
  for (const [index, [limits, member, expected]] of customs.entries()) {
    const [id, cap] = [`r${String(index)}`, `c${String(index)}`];
    assert.deepEqual(
      await askFor(id, 'rule_invalid'),
      { allow: false, args: { rule: id, member, expected } },
      limits,
    );
    const args = { rule: `cap-${cap}`, member, expected };
    assert.deepEqual(await askFor(cap, 'limit_invalid'), { allow: false, args }, limits);
  }
  const empty = { rule: 'cap-c5', member: 'limits', expected: order };
  assert.deepEqual(await askFor('c5', 'limit_invalid'), { allow: false, args: empty });
});

/** A bundle in which nothing of the library is left: its author allows whatever is asked. */
const ALLOWS_ALL = `publish := verdict
stream := verdict
verdict := {
	"allow": true, "rule": "mine", "rules": {"publish": ["mine"], "stream": ["mine"]},
	"reasons": [{"code": "allowed_by", "args": {"rule": "mine"}}], "obligations": {}, "recheck_at": null,
}`;

test('a bundle whose author replaced the library reaches no address that the guard refuses', async (t) => {
  const host = await openHost(t, await rawBundle(t, ALLOWS_ALL));
  const to = (...addresses: string[]) =>
    decide(host, streamInput({ target: { host: 'any', port: 80, addresses } }), openGuard);
  assert.equal((await to('10.1.2.3')).allow, true);
  for (const address of [
    '169.254.169.254',
    '::ffff:169.254.169.254',
    '64:ff9b::a9fe:a9fe',
    '2002:a9fe:a9fe::1',
    'fd00:ec2::254',
    '100.100.100.200',
    '168.63.129.16',
    '127.0.0.1',
    '0.0.0.0',
  ]) {
    const { allow, decided_by: by, reason } = await to(address);
    assert.deepEqual([allow, by, reason], [false, 'guard', 'guard_denied'], address);
  }
  const mixed = await to('169.254.169.254', '10.1.2.3');
  assert.deepEqual(mixed.allowed_addresses, ['10.1.2.3']);
});
