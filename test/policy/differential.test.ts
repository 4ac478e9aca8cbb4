import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { normalizeCandidates } from '../../src/policy/address.ts';
import { askVector } from '../../src/policy/bundle/acceptance.ts';
import { readBundle, type Vector } from '../../src/policy/bundle/bundle.ts';
import { buildBundle, policyExamples, SHIPPED_POLICIES, writePolicyExample } from '../../src/policy/index.ts';
import { canonicalInput, type PolicyInputBase } from '../../src/policy/input.ts';
import { withEngine } from '../../src/policy/tool/engine.ts';
import { askOpa } from '../../src/policy/tool/opa-verdicts.ts';
import { differences } from '../../src/policy/tool/test.ts';
import { readVectors } from '../../src/policy/tool/vectors.ts';
import { scratch, testOpa } from './support.ts';

/** Inputs for each example; all of one go through one process of OPA. */
const INPUTS = 150;
/** `SALLYPORT_TEST_SEED=N` repeats a run. */
const SEED = Number(process.env['SALLYPORT_TEST_SEED'] ?? randomInt(2 ** 31));
const MAX_SAFE = Number.MAX_SAFE_INTEGER;

type Input = Vector['input'] & PolicyInputBase;

/** What tears at engines: combining marks, other directions, NUL, astral planes, JSON's own signs, no text at all. */
const oddText = fc.oneof(
  fc.constantFrom(
    '',
    ' ',
    '\u0000',
    '"\\/\b',
    'ﬁ',
    'e\u0301',
    'é',
    '\u202eabc',
    '😀',
    '\u{10ffff}',
    'İ',
    'ß',
  ),
  fc.constantFrom(
    '__proto__',
    'constructor',
    '*',
    'null',
    '%s',
    '${x}',
    '\u2028\u2029',
    '\ufeff',
    'K',
    'true',
  ),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.string({ unit: 'binary', maxLength: 12 }),
);
const count = fc.oneof(
  fc.constantFrom(0, 1, 2, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 2, MAX_SAFE),
  fc.nat(30),
);
const port = fc.oneof(
  fc.constantFrom(0, 1, 22, 443, 1_433, 3_389, 5_432, 65_534, 65_535, 65_536, -1),
  fc.nat(65_535),
);
const wholeAddress = fc.oneof(fc.ipV4(), fc.ipV4Extended(), fc.ipV6());
const edgeAddress = fc.constantFrom(
  ...['0.0.0.0', '10.0.0.0', '10.255.255.255', '127.0.0.1', '255.255.255.255', '198.51.100.127'],
  ...['198.51.100.128', '203.0.113.127', '203.0.113.128', '::', '::1', 'fd00::1', 'FE80::1%eth0'],
  ...['2001:db8:51::', '2001:db8:51:ffff:ffff:ffff:ffff:ffff', '2001:0DB8:0052:0:0:0:0:1', '64:ff9b::a00:1'],
  ...['::ffff:10.1.2.3', '::10.1.2.3', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
);
/** As agents and relays write addresses: in one form each. */
const addresses = fc
  .array(fc.oneof(edgeAddress, wholeAddress), { minLength: 1, maxLength: 3 })
  .map((texts) =>
    texts.flatMap((text) => {
      try {
        return normalizeCandidates([text]);
      } catch {
        return [];
      }
    }),
  )
  .filter((texts) => texts.length > 0);
const instantMs = fc.oneof(
  fc.constantFrom(0, -1, 999, 1_000, 253_402_300_799_999, Date.UTC(2028, 1, 29), Date.UTC(2027, 2, 31) - 1),
  fc.integer({ min: 0, max: Date.UTC(2040, 0, 1) }),
);
const ZONES = ['UTC', 'Europe/Berlin', 'Asia/Kathmandu', 'Pacific/Apia', 'America/St_Johns', 'Etc/GMT+12'];
const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
const time = fc
  .record({
    unix_ms: instantMs,
    hour: fc.nat(23),
    minute: fc.constantFrom(0, 1, 29, 30, 59),
    zone: fc.constantFrom(...ZONES),
    weekday: fc.constantFrom(...DAYS),
  })
  .map(({ unix_ms, ...local }) => {
    const rfc3339 = new Date(unix_ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
    return { unix_ms, rfc3339, local: { date: rfc3339.slice(0, 10), ...local } };
  });

/** The vectors' own inputs, each with some of its fields replaced: most stay close to what rules speak of. */
const inputsLike = (inputs: readonly Input[]): fc.Arbitrary<Input> => {
  const pooled = (read: (input: Input) => string | undefined): fc.Arbitrary<string> =>
    fc.oneof(
      { weight: 2, arbitrary: fc.constantFrom(...inputs.flatMap((input) => read(input) ?? [])) },
      { weight: 1, arbitrary: oddText },
    );
  const labels = fc.dictionary(
    fc.oneof(fc.constantFrom('environment', 'env', 'site'), oddText),
    fc.oneof(fc.constantFrom('production', 'staging', 'test'), oddText),
    { maxKeys: 3 },
  );
  const all = fc.record({
    connection: pooled(({ connection }) => connection.name),
    host: pooled(({ target }) => target.host),
    principal: pooled(({ key }) => key?.principal),
    agent: pooled(({ agent }) => agent.name),
    gateway: oddText,
    port,
    addresses,
    source: addresses,
    connectionLabels: labels,
    agentLabels: labels,
    streams: count,
    requireProof: fc.boolean(),
    time,
  });
  const fields = [
    'connection',
    'host',
    'principal',
    'agent',
    'gateway',
    'port',
    'addresses',
    'source',
  ] as const;
  const others = ['connectionLabels', 'agentLabels', 'streams', 'requireProof', 'time'] as const;
  const chosen = fc.subarray([...fields, ...others], { maxLength: 3 });
  return fc.tuple(fc.constantFrom(...inputs), all, chosen).map(([input, drawn, names]) => {
    const change: Partial<typeof drawn> = Object.fromEntries(names.map((name) => [name, drawn[name]]));
    const listed = change.addresses ?? input.target.addresses;
    const streams = change.streams ?? input.usage.agent.streams;
    const base = {
      ...input,
      connection: {
        ...input.connection,
        name: change.connection ?? input.connection.name,
        labels: change.connectionLabels ?? input.connection.labels,
      },
      target: {
        host: change.host ?? input.target.host,
        port: change.port ?? input.target.port,
        addresses: listed,
      },
      agent: {
        ...input.agent,
        name: change.agent ?? input.agent.name,
        labels: change.agentLabels ?? input.agent.labels,
      },
      ...(input.key === undefined
        ? {}
        : { key: { ...input.key, principal: change.principal ?? input.key.principal } }),
      ...(input.source === undefined
        ? {}
        : {
            source: {
              ...input.source,
              gateway: change.gateway ?? input.source.gateway,
              ...(change.source?.[0] === undefined ? {} : { address: change.source[0] }),
            },
          }),
      usage: { ...input.usage, agent: { streams }, connection: { streams } },
      managed: { require_proof: change.requireProof ?? input.managed.require_proof },
      time: change.time ?? input.time,
    };
    // The very bytes that an agent would give its engine.
    const asked = JSON.parse(canonicalInput(base)) as Input;
    return { ...asked, target: { ...asked.target, address: listed[0] ?? '' } };
  });
};

const isOfSchema = new Ajv({ strict: false }).compile(
  JSON.parse(readFileSync(join(SHIPPED_POLICIES, 'schemas/input.json'), 'utf8')) as object,
);

for (const name of policyExamples()) {
  test(`example ${name}: generated inputs get the same verdict from OPA and from the engine`, async (t) => {
    t.diagnostic(`seed ${String(SEED)}`);
    const directory = join(scratch(t), name);
    writePolicyExample(directory, name);
    const opa = await testOpa();
    const own = readVectors(directory).map(({ vector }) => vector.input as Input);
    const inputs = fc.sample(inputsLike(own), { numRuns: INPUTS, seed: SEED });
    const byOpa = await askOpa(opa, directory, inputs);
    const { bytes } = await buildBundle(directory, undefined, { opa });
    let allowed = 0;
    await withEngine(await readBundle(bytes), async (engine) => {
      for (const [index, input] of inputs.entries()) {
        assert.ok(isOfSchema(input), JSON.stringify(isOfSchema.errors));
        const answer = await askVector(engine, { name: `generated ${String(index)}`, input });
        const opaAnswer = byOpa[index] ?? assert.fail('no answer');
        const shown = `seed ${String(SEED)}, input ${JSON.stringify(input)}`;
        assert.ok(answer.ok, `${answer.ok ? '' : answer.detail}: ${shown}`);
        assert.ok(opaAnswer.ok, shown);
        assert.deepEqual(differences(answer, opaAnswer), [], shown);
        assert.deepEqual(answer.verdict, opaAnswer.verdict, shown);
        if (answer.verdict.allow) allowed += 1;
      }
    });
    // Inputs that nothing allows would show nothing of the rules.
    assert.ok(allowed > 0 && allowed < INPUTS, `${String(allowed)} of ${String(INPUTS)} are allowed`);
  });
}
