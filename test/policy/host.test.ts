import assert from 'node:assert/strict';
import { cpSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { decide, keySigner, type PolicyHost, signBundle } from '../../src/policy/index.ts';
import { ENDLESS_START } from './hostile-archives.ts';
import { edit, makeKey, trusted } from './signing-support.ts';
import { ORDERS, compileOrders, keyOf, openGuard, openHost, scratch, streamInput } from './support.ts';

const DEADLINE_MS = 20_000;

/** Resolves with the next activation or refusal, within the deadline. */
const next = (t: TestContext, host: PolicyHost, what: 'onActivated' | 'onRejected'): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} in time`)), DEADLINE_MS);
    t.after(() => clearTimeout(timer));
    host[what](() => resolve());
  });

const replace = (file: string, bytes: Buffer | string): void => {
  writeFileSync(`${file}.new`, bytes);
  renameSync(`${file}.new`, file);
};

const withSequence = (bundle: Buffer, sequence: number): Promise<Buffer> =>
  edit(bundle, (files) => {
    const manifest = JSON.parse(files.get('.manifest')?.toString() ?? '{}') as object;
    const metadata = { sallyport: { input: 1, sequence } };
    files.set('.manifest', Buffer.from(JSON.stringify({ ...manifest, metadata })));
  });

const NONE = `package sallyport.allow

# METADATA
# title: Nobody
# custom: {id: nobody, owner: o}
deny["*"] contains rego.metadata.rule()
`;

test('without a bundle every decision is a denial, until one comes', async (t) => {
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const host = await openHost(t, undefined, { bundleFile });
  assert.equal(host.active, undefined);
  const denied = await decide(host, streamInput(), openGuard);
  assert.deepEqual([denied.allow, denied.decided_by, denied.reason], [false, 'engine', 'no_bundle']);
  assert.equal(denied.bundle, undefined);
  const activated = next(t, host, 'onActivated');
  replace(bundleFile, await compileOrders(t));
  await activated;
  assert.equal((await decide(host, streamInput(), openGuard)).allow, true);
});

test('a corrupt bundle is a denial', async (t) => {
  const bundle = await compileOrders(t);
  const corrupt = Buffer.from(bundle);
  corrupt.fill(0, corrupt.length / 2);
  for (const bytes of [corrupt, bundle.subarray(0, 1_000), Buffer.alloc(0), Buffer.from('x')]) {
    const host = await openHost(t, bytes);
    assert.equal(host.active, undefined);
    assert.equal((await decide(host, streamInput(), openGuard)).reason, 'no_bundle');
    assert.match(host.status().rejected?.code ?? '', /^ERR_POLICY_/);
  }
});

test('a changed file is activated whole: generation, digest and answers change together', async (t) => {
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const host = await openHost(t, await compileOrders(t), { bundleFile });
  const before = host.active;
  let stop = false;
  const torn: string[] = [];
  const asking = (async (): Promise<void> => {
    while (!stop) {
      const { allow, bundle, generation } = await decide(host, streamInput(), openGuard);
      if (allow !== (bundle?.sequence === 7)) torn.push(`${allow} by ${bundle?.sequence} in ${generation}`);
    }
  })();
  const activated = next(t, host, 'onActivated');
  const closed = await compileOrders(
    t,
    { 'sallyport/allow/none.rego': NONE, 'vectors/orders.yaml': '[]' },
    8,
  );
  replace(bundleFile, closed);
  await activated;
  assert.equal((await decide(host, streamInput(), openGuard)).allow, false);
  stop = true;
  await asking;
  assert.deepEqual(torn, []);
  assert.notEqual(host.active?.sha256, before?.sha256);
  assert.equal(host.generation, (before?.generation ?? 0) + 1);
});

const refusals: Readonly<
  Record<string, readonly [string, (t: TestContext, good: Buffer) => Promise<Buffer>]>
> = {
  'a lower sequence': ['ERR_POLICY_SEQUENCE', (_t, good) => withSequence(good, 6)],
  'the same sequence and other content': [
    'ERR_POLICY_SEQUENCE',
    (_t, good) => edit(good, (files) => void files.set('extra.rego', Buffer.from('package sallyport.x'))),
  ],
  'a failing vector': [
    'ERR_POLICY_VECTOR',
    (t) => compileOrders(t, { 'sallyport/allow/none.rego': NONE }, 8),
  ],
  'no wasm': ['ERR_POLICY_BUNDLE', (_t, good) => edit(good, (files) => void files.delete('policy.wasm'))],
  'wasm that is none': [
    'ERR_POLICY_BUNDLE',
    (_t, good) => edit(good, (files) => void files.set('policy.wasm', Buffer.from('\0asm'))),
  ],
  'data that is no object': [
    'ERR_POLICY_ENGINE',
    async (_t, good) =>
      edit(await withSequence(good, 8), (files) => void files.set('data.json', Buffer.from('[]'))),
  ],
  'a root outside of sallyport': [
    'ERR_POLICY_BUNDLE',
    (_t, good) =>
      edit(good, (files) => {
        const manifest = JSON.parse(files.get('.manifest')?.toString() ?? '{}') as object;
        files.set('.manifest', Buffer.from(JSON.stringify({ ...manifest, roots: ['other'] })));
      }),
  ],
  'no sequence': [
    'ERR_POLICY_BUNDLE',
    (_t, good) =>
      edit(
        good,
        (files) => void files.set('.manifest', Buffer.from('{"revision":"r","roots":["sallyport"]}')),
      ),
  ],
};

for (const [what, [code, make]] of Object.entries(refusals)) {
  test(`a bundle with ${what} is refused and the one before stays`, async (t) => {
    const bundleFile = join(scratch(t), 'bundle.tar.gz');
    const good = await compileOrders(t);
    const host = await openHost(t, good, { bundleFile });
    const { active, generation } = host;
    writeFileSync(bundleFile, await make(t, good));
    await host.reload();
    assert.equal(host.status().rejected?.code, code);
    assert.equal(host.active, active);
    assert.equal(host.generation, generation);
    assert.equal((await decide(host, streamInput(), openGuard)).allow, true);
    writeFileSync(bundleFile, good);
    await host.reload();
    assert.equal(host.status().rejected, undefined);
    assert.equal(host.generation, generation, 'the same content is not activated again');
  });
}

test('require_signed refuses a bundle without a verified signature', async (t) => {
  const bundle = await compileOrders(t);
  const signed = await edit(
    bundle,
    (files) => void files.set('.signatures.json', Buffer.from('{"signatures":["x"]}')),
  );
  for (const bytes of [bundle, signed]) {
    const host = await openHost(t, bytes, { requireSigned: true });
    assert.equal(host.active, undefined);
    assert.equal(host.status().rejected?.code, 'ERR_POLICY_UNSIGNED');
  }
});

const RSA = makeKey('RS256');
const EC = makeKey('ES256');

const signedHost = async (
  t: TestContext,
): Promise<{ host: PolicyHost; good: Buffer; bundleFile: string }> => {
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const good = await compileOrders(t);
  const signed = await signBundle(good, keySigner(EC.privatePem), 'k1');
  const host = await openHost(t, signed, {
    bundleFile,
    requireSigned: true,
    keys: [trusted(RSA, 'old'), trusted(EC, 'new')],
  });
  return { host, good, bundleFile };
};

test('a bundle signed by a configured key is active, and the status says by which', async (t) => {
  const { host } = await signedHost(t);
  assert.equal(host.status().active?.signedBy, 'new');
  assert.equal((await decide(host, streamInput(), openGuard)).allow, true);
});

test('unsigned, altered and foreign bundles are refused; the one before stays', async (t) => {
  const { host, good, bundleFile } = await signedHost(t);
  const { active, generation } = host;
  const next8 = await withSequence(good, 8);
  const signed8 = await signBundle(next8, keySigner(EC.privatePem), 'k1');
  const foreign = await signBundle(next8, keySigner(makeKey('ES256').privatePem), 'new');
  const altered = await edit(signed8, (files) => void files.set('vectors.json', Buffer.from('[]')));
  const extra = await edit(signed8, (files) => void files.set('extra.rego', Buffer.from('package x')));
  for (const [bytes, code] of [
    [next8, 'ERR_POLICY_UNSIGNED'],
    [foreign, 'ERR_POLICY_SIGNATURE'],
    [altered, 'ERR_POLICY_SIGNATURE'],
    [extra, 'ERR_POLICY_SIGNATURE'],
    [await signBundle(await withSequence(good, 6), keySigner(EC.privatePem), 'k1'), 'ERR_POLICY_SEQUENCE'],
  ] as const) {
    writeFileSync(bundleFile, bytes);
    await host.reload();
    assert.equal(host.status().rejected?.code, code);
    assert.equal(host.active, active);
    assert.equal(host.generation, generation);
  }
  writeFileSync(bundleFile, signed8);
  await host.reload();
  assert.deepEqual([host.status().rejected, host.active?.sequence], [undefined, 8]);
});

test('the same content signed anew is no other content', async (t) => {
  const { host, good, bundleFile } = await signedHost(t);
  writeFileSync(bundleFile, await signBundle(good, keySigner(RSA.privatePem), 'k0'));
  await host.reload();
  assert.deepEqual([host.status().rejected, host.active?.signedBy], [undefined, 'old']);
});

test('with keys a signature must hold even where none is required', async (t) => {
  const good = await compileOrders(t);
  const foreign = await signBundle(good, keySigner(RSA.privatePem), undefined);
  const host = await openHost(t, foreign, { keys: [trusted(EC)] });
  assert.equal(host.status().rejected?.code, 'ERR_POLICY_SIGNATURE');
  assert.equal((await openHost(t, good, { keys: [trusted(EC)] })).active?.signedBy, undefined);
});

test('a last good bundle whose key is gone is not used, and its sequence still counts', async (t) => {
  const stateDir = scratch(t);
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const good = await compileOrders(t);
  const byOld = await signBundle(good, keySigner(RSA.privatePem), undefined);
  const options = { bundleFile, stateDir, requireSigned: true };
  await (await openHost(t, byOld, { ...options, keys: [trusted(RSA)] })).close();
  writeFileSync(bundleFile, 'corrupt');
  const again = await openHost(t, undefined, { ...options, keys: [trusted(RSA)] });
  assert.equal(again.active?.signedBy, 'test', 'it is kept with its signature');
  await again.close();
  const other = await openHost(t, undefined, { ...options, keys: [trusted(EC)] });
  assert.equal(other.active, undefined);
  for (const [sequence, expected] of [
    [6, undefined],
    [8, 8],
  ] as const) {
    const bytes = await signBundle(await withSequence(good, sequence), keySigner(EC.privatePem), undefined);
    writeFileSync(bundleFile, bytes);
    await other.reload();
    assert.equal(other.status().active?.sequence, expected);
  }
});

test('a grants file takes the place of the grants in the bundle and is reloaded live', async (t) => {
  const directory = scratch(t);
  const dataFile = join(directory, 'data.yaml');
  cpSync(join(ORDERS, 'sallyport/grants/data.yaml'), dataFile);
  const host = await openHost(t, await compileOrders(t, { 'vectors/orders.yaml': '[]' }), { dataFile });
  const reporting = streamInput({ key: keyOf('reporting') });
  assert.equal((await decide(host, reporting, openGuard)).rule, 'orders-reporting');
  const { generation } = host;
  const activated = next(t, host, 'onActivated');
  replace(dataFile, '{}');
  await activated;
  assert.equal(host.generation, generation + 1);
  assert.equal((await decide(host, reporting, openGuard)).allow, false);
  const rejected = next(t, host, 'onRejected');
  replace(dataFile, 'orders-db: {reporting: [{id: x}]}');
  await rejected;
  const { rejected: bundleRejected, grantsRejected } = host.status();
  assert.equal(bundleRejected, undefined, 'the bundle is not to blame');
  assert.deepEqual([grantsRejected?.code, grantsRejected?.file], ['ERR_POLICY_GRANTS', dataFile]);
  assert.match(
    grantsRejected?.message ?? '',
    /^grants file \S+data\.yaml NOT taken: .*; .*whoever was removed from it still has access$/,
  );
  assert.equal(host.generation, generation + 1);
});

test('grants that are wrong are refused: mapped networks, unknown limits, malformed yaml', async (t) => {
  const dataFile = join(scratch(t), 'data.yaml');
  const grant = (extra: string): string =>
    `orders-db: {a: [{id: x, owner: o, expires: never, target: {host: h, port: 1}${extra}}]}`;
  const bundle = await compileOrders(t, { 'vectors/orders.yaml': '[]' });
  for (const text of [
    grant(', sources: ["::ffff:10.0.0.0/104"]'),
    grant(', limits: {max: 1}'),
    '- [',
    '- a',
  ]) {
    writeFileSync(dataFile, text);
    const host = await openHost(t, bundle, { dataFile });
    assert.equal(host.active, undefined, text);
    assert.equal(host.status().grantsRejected?.code, 'ERR_POLICY_GRANTS', text);
  }
});

test('the last good bundle outlives a restart with a corrupt file', async (t) => {
  const stateDir = scratch(t);
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const first = await openHost(t, await compileOrders(t), { bundleFile, stateDir });
  const sha256 = first.active?.sha256;
  await first.close();
  assert.equal(readdirSync(stateDir).length, 1);
  writeFileSync(bundleFile, 'corrupt');
  const second = await openHost(t, undefined, { bundleFile, stateDir });
  assert.equal(second.active?.sha256, sha256);
  assert.equal(second.status().active?.sequence, 7);
  assert.equal(second.status().rejected?.code, 'ERR_POLICY_ARCHIVE');
  rmSync(bundleFile);
  const third = await openHost(t, undefined, { bundleFile, stateDir });
  assert.equal(third.active?.sha256, sha256);
});

test('a lower sequence is refused after a restart too, but not from another source', async (t) => {
  const stateDir = scratch(t);
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const good = await compileOrders(t);
  await (await openHost(t, good, { bundleFile, stateDir })).close();
  writeFileSync(bundleFile, await withSequence(good, 6));
  const second = await openHost(t, undefined, { bundleFile, stateDir });
  assert.equal(second.status().rejected?.code, 'ERR_POLICY_SEQUENCE');
  assert.equal(second.active?.sequence, 7);
  const other = await openHost(t, await withSequence(good, 6), { stateDir });
  assert.equal(other.active?.sequence, 6);
});

test('the active bundle keeps its bytes for the audit', async (t) => {
  const bundle = await compileOrders(t);
  const host = await openHost(t, bundle);
  assert.ok(host.active?.bytes.equals(bundle));
});

test('a closed host decides nothing', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const { generation } = host;
  await host.close();
  assert.equal((await decide(host, streamInput(), openGuard)).reason, 'no_bundle');
  assert.notEqual(host.generation, generation);
});

test('a bundle whose start never returns is given up, and the one before goes on', async (t) => {
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const good = await compileOrders(t);
  const host = await openHost(t, good, { bundleFile, startLimitMs: 3_000 });
  const before = host.active?.sha256;
  const rejected = next(t, host, 'onRejected');
  replace(
    bundleFile,
    await edit(await withSequence(good, 8), (files) => files.set('policy.wasm', ENDLESS_START)),
  );
  await rejected;
  const { rejected: refusal, active } = host.status();
  assert.equal(refusal?.code, 'ERR_POLICY_START');
  assert.match(refusal.message, /not ready after 3000 ms/);
  assert.equal(active?.sha256, before);
  assert.equal((await decide(host, streamInput(), openGuard)).allow, true);
  // Its threads are gone: nothing keeps the host from closing, nor from the next bundle.
  const activated = next(t, host, 'onActivated');
  replace(bundleFile, await withSequence(good, 9));
  await activated;
  assert.equal(host.active?.sequence, 9);
});
