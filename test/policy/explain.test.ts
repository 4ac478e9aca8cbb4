import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { canonicalInput, explainInput, type Explanation, readAskedInput } from '../../src/policy/index.ts';
import { compileOrders, keyOf, ORDERS, policyDirectory, sallyport, scratch, streamInput } from './support.ts';

/** As a decision is recorded: the canonical input as text, without `target.address`. */
const recorded = (changes: Parameters<typeof streamInput>[0] = {}): string =>
  JSON.stringify({ data: { input: canonicalInput(streamInput(changes)) } });

const only = <T>(list: readonly T[]): T => {
  assert.equal(list.length, 1);
  return list[0] ?? assert.fail();
};

test('an allowed stream: verdict, matched and live rules, and each rule that was asked', async (t) => {
  const explanation = await explainInput(await compileOrders(t), readAskedInput(recorded()));
  assert.equal(explanation.allow, true);
  assert.equal(explanation.noLines, undefined);
  const { answer, matched, live, grants, rules } = only(explanation.addresses);
  assert.ok(answer.ok && answer.verdict.rule === 'orders-app');
  assert.deepEqual(matched, { publish: ['orders-publish'], stream: ['orders-app'] });
  assert.deepEqual(live, matched);
  assert.deepEqual(grants, {});
  assert.deepEqual(
    rules.map(({ id, action, line, held }) => [id, action, line, held]),
    [
      ['orders-publish', 'publish', 8, true],
      ['orders-app', 'stream', 22, true],
      ['no-ssh', 'deny', 31, false],
      ['day-cap', 'limits', 36, true],
    ],
  );
});

test('a denied stream: every grant criterion, and the line at which each rule fails, with what the input has', async (t) => {
  const local = { date: '2027-03-30', weekday: 'tue', hour: 5, minute: 0, zone: 'Europe/Berlin' };
  const { time } = streamInput();
  const text = recorded({ key: keyOf('reporting'), time: { ...time, local } });
  const { allow, addresses } = await explainInput(await compileOrders(t), readAskedInput(text));
  assert.equal(allow, false);
  const { grants, rules, matched } = only(addresses);
  assert.deepEqual(grants, { 'orders-reporting': { target: true, source: true, hours: false } });
  assert.deepEqual(matched['stream'], []);
  assert.deepEqual(rules.find(({ id }) => id === 'orders-app')?.failed, {
    line: 23,
    column: 2,
    text: 'input.key.principal == "orders-app"',
    values: { 'input.key.principal': 'reporting' },
  });
});

test('a condition of the library is told with what it looks at; the furthest line counts', async (t) => {
  const { source } = streamInput();
  assert.ok(source);
  const text = recorded({ source: { ...source, address: '198.51.100.1' } });
  const { addresses } = await explainInput(await compileOrders(t), readAskedInput(text));
  assert.deepEqual(only(addresses).rules.find(({ id }) => id === 'orders-app')?.failed, {
    line: 24,
    column: 2,
    text: 'request.from_any({"203.0.113.0/24"})',
    values: { 'input.source.address': '198.51.100.1' },
  });
});

test('a rule that matches and has ended is matched, not live', async (t) => {
  const { time } = streamInput();
  const text = recorded({ time: { ...time, rfc3339: '2027-03-31T00:00:00Z' } });
  const { allow, addresses } = await explainInput(await compileOrders(t), readAskedInput(text));
  const { matched, live, answer } = only(addresses);
  assert.equal(allow, false);
  assert.deepEqual([matched['stream'], live['stream']], [['orders-app'], undefined]);
  assert.ok(answer.ok && answer.verdict.reasons.some(({ code }) => code === 'rule_expired'));
});

test('a rule that holds and is invalid says so, with what it should be', async (t) => {
  const odd = `package sallyport.allow

# METADATA
# title: Has a limit that there is not
# custom: {id: odd, owner: o@example.com, expires: never, limits: {max_second: 3}}
stream["orders-db"] contains rego.metadata.rule() if input.key.principal == "odd"
`;
  const bundle = join(scratch(t), 'bundle.tar.gz');
  writeFileSync(bundle, await compileOrders(t, { 'sallyport/allow/odd.rego': odd }));
  const input = recorded({ key: keyOf('odd') });
  const run = sallyport(['policy', 'explain', '--input', '-', '--bundle', bundle], {}, input);
  assert.equal(run.status, 1, run.stderr);
  const fault = 'limits\\.max_second: expected one of idle_seconds, max_bytes, max_seconds, .*';
  assert.match(run.stdout, new RegExp(`^ {2}reason {3}rule_invalid rule odd: ${fault}$`, 'm'));
  assert.match(
    run.stdout,
    new RegExp(`^ {2}stream {3}odd matches and does not count, it is invalid: ${fault}$`, 'm'),
  );
  assert.doesNotMatch(run.stdout, /odd holds/);
});

test('each address is asked in the form in which an agent asks, and one of them is enough', async (t) => {
  const target = {
    host: 'sql01.corp.example',
    port: 1433,
    addresses: ['10.2.0.1', '::ffff:10.1.2.3', '169.254.169.254'],
  };
  const asked = readAskedInput(recorded({ target }));
  const { allow, addresses } = await explainInput(await compileOrders(t), asked);
  assert.equal(allow, true);
  assert.deepEqual(
    addresses.map(({ address, guard, answer }) => [address, guard, answer.ok && answer.verdict.allow]),
    [
      ['10.2.0.1', undefined, false],
      ['10.1.2.3', undefined, true],
      ['169.254.169.254', 'guard_denied: cloud_metadata', false],
    ],
  );
});

test('a bundle that throws or never ends explains itself as denied', async (t) => {
  const endless = `package sallyport.allow

# METADATA
# title: Takes for ever
# custom: {id: endless, owner: o@example.com}
deny["*"] contains rego.metadata.rule() if {
	some a in numbers.range(1, 3000)
	some b in numbers.range(1, 3000)
	some c in numbers.range(1, 3000)
	(a + b) + c == 0
}
`;
  const bytes = await compileOrders(t, { 'sallyport/allow/endless.rego': endless });
  const { allow, addresses } = await explainInput(bytes, readAskedInput(recorded()), { withLines: false });
  assert.equal(allow, false);
  assert.equal(only(addresses).answer.ok, false);
});

test('what is no input is refused with the field that is wrong', () => {
  const refused = (text: string, message: RegExp): void =>
    assert.throws(() => readAskedInput(text), { code: 'ERR_POLICY_INPUT', message });
  refused('{', /neither json nor yaml/);
  refused('[]', /list/);
  refused('{}', /action/);
  refused('{action: stream, connection: {name: a}, target: {host: h}}', /target\.port/);
  refused('{action: stream, connection: {name: a}, target: {host: h, port: 1}}', /no address/);
  refused('{action: stream, connection: {name: a}, target: {host: h, port: 1, addresses: []}}', /no address/);
  assert.throws(
    () => readAskedInput('{action: stream, connection: {name: a}, target: {host: h, port: 1, address: x}}'),
    { code: 'ERR_POLICY_ADDRESS' },
  );
});

test('the command: stdin, a directory or a bundle, exit codes, and without opa', async (t) => {
  const bundle = join(scratch(t), 'bundle.tar.gz');
  writeFileSync(bundle, await compileOrders(t));
  const allowed = sallyport(
    ['--json', 'policy', 'explain', '--input', '-', '--bundle', bundle],
    {},
    recorded(),
  );
  assert.equal(allowed.status, 0, allowed.stderr);
  assert.equal((JSON.parse(allowed.stdout) as Explanation).allow, true);
  const vector = join(scratch(t), 'vector.yaml');
  const input = { ...streamInput(), key: keyOf('nobody') };
  writeFileSync(vector, JSON.stringify({ name: 'a', input, expect: { allow: false } }));
  const denied = sallyport(['policy', 'explain', '--input', vector, '--bundle', bundle]);
  assert.equal(denied.status, 1, denied.stderr);
  assert.match(denied.stdout, /^deny: a stream to sql01\.corp\.example:1433 through orders-db, /m);
  assert.match(denied.stdout, /^ {2}stream {3}orders-app fails: input\.key\.principal == "orders-app"$/m);
  assert.match(denied.stdout, /^ +at sallyport\/allow\/orders\.rego:23:2$/m);
  assert.match(denied.stdout, /^ +input\.key\.principal is "nobody"$/m);
  const without = sallyport(['policy', 'explain', '--input', vector, '--bundle', bundle], {
    SALLYPORT_OPA: '/nonexistent/opa',
  });
  assert.equal(without.status, 1);
  assert.match(without.stdout, /^ {2}matched {2}publish orders-publish$/m);
  assert.match(without.stderr, /no failing lines: they need OPA/);
  const directory = policyDirectory(t, {}, ORDERS);
  assert.equal(sallyport(['policy', 'explain', '--input', vector, '--bundle', directory]).status, 1);
  const compiled = sallyport(['policy', 'explain', '--input', vector, '--bundle', directory], {
    SALLYPORT_OPA: '/nonexistent/opa',
  });
  assert.equal(compiled.status, 3);
  const list = readFileSync(join(ORDERS, 'vectors/orders.yaml'), 'utf8');
  assert.equal(
    sallyport(['policy', 'explain', '--input', '-', '--bundle', bundle], {}, list).status,
    2,
    'a list of vectors',
  );
  assert.equal(sallyport(['policy', 'explain', '--input', vector, '--bundle', '/none']).status, 2);
});
