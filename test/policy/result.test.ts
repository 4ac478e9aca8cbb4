import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseResult } from '../../src/policy/engine/result.ts';

const good = {
  allow: true,
  rule: 'r',
  rules: { publish: ['p'], stream: ['r'] },
  reasons: [{ code: 'allowed_by', args: { rule: 'r' } }],
  obligations: { max_seconds: 10, recheck_seconds: 60 },
  recheck_at: '2027-03-31T00:00:00Z',
};

const parse = (result: unknown): ReturnType<typeof parseResult> => parseResult([{ result }]);

test('a result of exactly the agreed form is read', () => {
  const parsed = parse(good);
  assert.ok(parsed.ok);
  assert.deepEqual(parsed.verdict, good);
});

test('recheck_seconds defaults to 60 and is at least 5', () => {
  const seconds = (obligations: object): number | undefined => {
    const parsed = parse({ ...good, obligations });
    return parsed.ok ? parsed.verdict.obligations.recheck_seconds : undefined;
  };
  assert.equal(seconds({}), 60);
  assert.equal(seconds({ recheck_seconds: 1 }), 5);
  assert.equal(seconds({ recheck_seconds: 0 }), undefined);
});

test('anything but one result is an error', () => {
  for (const returned of [
    undefined,
    null,
    {},
    [],
    [{ result: good }, { result: good }],
    'x',
    [good],
    [null],
  ]) {
    assert.equal(parseResult(returned).ok, false, JSON.stringify(returned));
  }
});

test('a wrong field is an error, whatever the others say', () => {
  const wrong: readonly object[] = [
    { allow: 'true' },
    { allow: 1 },
    { allow: null },
    { allow: undefined },
    { rule: null },
    { rule: '' },
    { rule: 7 },
    { rules: {} },
    { rules: { publish: [], stream: [1] } },
    { reasons: {} },
    { reasons: [{ code: 'x' }] },
    { reasons: [{ code: '', args: {} }] },
    { obligations: null },
    { obligations: [] },
    { obligations: { max_seconds: 0 } },
    { obligations: { max_seconds: -1 } },
    { obligations: { max_seconds: 1.5 } },
    { obligations: { max_seconds: '10' } },
    { obligations: { max_second: 10 } },
    { recheck_at: undefined },
    { recheck_at: '2027-03-31' },
    { recheck_at: '2027-13-31T00:00:00Z' },
    { recheck_at: '2027-03-31T00:00:00+' },
    { extra: true },
  ];
  for (const change of wrong) assert.equal(parse({ ...good, ...change }).ok, false, JSON.stringify(change));
});

test('only a literally correct allow allows', () => {
  const json = fc.jsonValue({ maxDepth: 3 });
  const mutated = fc
    .tuple(fc.constantFrom(...Object.keys(good)), json)
    .map(([name, value]) => ({ ...good, [name]: value }));
  const returned = fc.oneof(
    json,
    fc.array(json, { maxLength: 3 }),
    json.map((result) => [{ result }]),
    mutated.map((result) => [{ result }]),
  );
  fc.assert(
    fc.property(returned, (value) => {
      const parsed = parseResult(value);
      if (!parsed.ok || !parsed.verdict.allow) return;
      const { result } = (value as { result: typeof good }[])[0] ?? { result: good };
      assert.equal(result.allow, true);
      assert.equal(typeof result.rule, 'string');
      assert.ok(Object.values(result.obligations).every((limit) => Number.isInteger(limit) && limit > 0));
    }),
    { numRuns: 2_000 },
  );
});
