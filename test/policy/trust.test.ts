import assert from 'node:assert/strict';
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { decide, keySigner, type PolicyHost, signBundle } from '../../src/policy/index.ts';
import { edit, makeKey, type TestKey, trusted } from './signing-support.ts';
import { compileOrders, openGuard, openHost, scratch, streamInput } from './support.ts';

const [old, fresh] = [makeKey('ES256'), makeKey('ES256')];

const signed = (bundle: Buffer, key: TestKey): Promise<Buffer> =>
  signBundle(bundle, keySigner(key.privatePem), 'in-the-token');

const withSequence = (bundle: Buffer, sequence: number): Promise<Buffer> =>
  edit(bundle, (files) => {
    const manifest = JSON.parse(files.get('.manifest')?.toString() ?? '{}') as object;
    const metadata = { sallyport: { input: 1, sequence } };
    files.set('.manifest', Buffer.from(JSON.stringify({ ...manifest, metadata })));
  });

const answer = async (host: PolicyHost): Promise<unknown[]> => {
  const { allow, reason, reasons } = await decide(host, streamInput(), openGuard);
  return [allow, reason, ...(allow ? [] : reasons.map(({ code }) => code))];
};

const UNTRUSTED = [false, 'no_bundle', 'bundle_untrusted'];

const signedHost = async (t: TestContext) => {
  const plain = await compileOrders(t);
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const host = await openHost(t, await signed(plain, old), {
    bundleFile,
    stateDir: scratch(t),
    requireSigned: true,
    keys: [trusted(old, 'old')],
  });
  assert.equal(host.status().active?.signedBy, 'old');
  return { host, plain, bundleFile };
};

test('a bundle whose key is taken out decides nothing from that tick on, and says why', async (t) => {
  const { host } = await signedHost(t);
  const told: string[] = [];
  host.onWithdrawn(({ message }) => told.push(message));
  const { generation } = host;
  const done = host.trust({ requireSigned: true, keys: [trusted(fresh, 'fresh')] });
  assert.equal(host.active, undefined, 'in the same tick');
  assert.ok(host.generation > generation);
  assert.deepEqual(await answer(host), UNTRUSTED);
  await done;
  assert.deepEqual(await answer(host), UNTRUSTED, 'its file is looked at again, and refused');
  assert.match(
    told.join(),
    /^the active bundle \(sequence 7\) is signed by 'old', which is none of the keys/,
  );
  const { withdrawn, rejected } = host.status();
  assert.equal(withdrawn?.signedBy, 'old');
  assert.equal(rejected?.code, 'ERR_POLICY_SIGNATURE');

  await host.trust({ requireSigned: true, keys: [trusted(old, 'back')] });
  assert.deepEqual(await answer(host), [true, undefined]);
  assert.equal(host.status().withdrawn, undefined);
  assert.equal(host.status().active?.signedBy, 'back');
});

test('a bundle of another key that is there already takes over at once', async (t) => {
  const { host, plain, bundleFile } = await signedHost(t);
  const next = await signed(await withSequence(plain, 8), fresh);
  writeFileSync(bundleFile, next);
  await host.reload();
  assert.equal(host.status().rejected?.code, 'ERR_POLICY_SIGNATURE');
  assert.equal(host.active?.sequence, 7);
  await host.trust({ requireSigned: true, keys: [trusted(fresh, 'fresh')] });
  assert.equal(host.active.sequence, 8);
  assert.deepEqual(await answer(host), [true, undefined]);
});

test('a key beside the old one, or another id for it, changes nothing that decides', async (t) => {
  const { host } = await signedHost(t);
  const { generation } = host;
  await host.trust({ requireSigned: true, keys: [trusted(fresh, 'old'), trusted(old, 'renamed')] });
  assert.equal(host.generation, generation);
  assert.equal(host.active?.signedBy, 'renamed');
});

test('a bundle that was verified by a key which goes meanwhile is not activated', async (t) => {
  const { host, plain } = await signedHost(t);
  await host.trust({ requireSigned: true, keys: [trusted(old, 'old'), trusted(fresh, 'fresh')] });
  let keysGone: Promise<void> | undefined;
  // The review is the last thing before the swap.
  host.reviewBy(() => {
    keysGone ??= host.trust({ requireSigned: true, keys: [trusted(old, 'old')] });
    return Promise.resolve({ wouldClose: 0, live: 0, isHeld: false });
  });
  assert.equal(await host.offer(await signed(await withSequence(plain, 8), fresh)), 'refused');
  await keysGone;
  assert.equal(host.active?.sequence, 7);
});

test('what is held by a key that goes cannot be confirmed any more', async (t) => {
  const { host, plain } = await signedHost(t);
  const both = [trusted(old, 'old'), trusted(fresh, 'fresh')];
  await host.trust({ requireSigned: true, keys: both });
  host.reviewBy(() => Promise.resolve({ wouldClose: 90, live: 100, isHeld: true }));
  assert.equal(await host.offer(await signed(await withSequence(plain, 8), fresh)), 'held');
  const id = host.status().held?.id ?? assert.fail('held');
  await host.trust({ requireSigned: true, keys: both.slice(0, 1) });
  assert.equal(host.status().held, undefined);
  assert.equal(await host.activateHeld(id), false);
  assert.equal(host.active?.sequence, 7);
});

test('where no signature was asked for, the first key asks for one of the active bundle', async (t) => {
  const plain = await compileOrders(t);
  const unsigned = await openHost(t, plain, {});
  await unsigned.trust({ requireSigned: true, keys: [trusted(old, 'old')] });
  assert.deepEqual(await answer(unsigned), UNTRUSTED);
  assert.match(unsigned.status().withdrawn?.message ?? '', /taken when no signature was asked for/);

  const host = await openHost(t, await signed(plain, old), {});
  assert.equal(host.active?.signedBy, undefined);
  await host.trust({ requireSigned: true, keys: [trusted(fresh, 'fresh')] });
  assert.deepEqual(await answer(host), UNTRUSTED);
  await host.trust({ requireSigned: true, keys: [trusted(old, 'old')] });
  assert.deepEqual(await answer(host), [true, undefined]);
  assert.equal(host.active?.signedBy, 'old');
});
