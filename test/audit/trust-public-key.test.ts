import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadTrust, openAuditKey } from '../../src/audit/index.ts';
import { sallyport } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';

test('an auditor vouches for processes by their public keys alone', async (t) => {
  const directory = temporaryDirectory(t, 'trust');
  const file = (name: string): string => join(directory, name);
  const trust = (...rest: string[]): ReturnType<typeof sallyport> =>
    sallyport(['audit', 'trust', ...rest, '--root-key', file('root.key'), '--trust', file('trust.json')]);
  assert.equal((await trust('init')).code, 0);
  const [agent, relay] = [openAuditKey(file('agent.key')), openAuditKey(file('relay.key'))];
  const pem = createPublicKey(readFileSync(file('agent.key'))).export({ type: 'spki', format: 'pem' });
  writeFileSync(file('agent.pub'), pem);
  writeFileSync(file('relay.hex'), `${relay.publicKey}\n`);
  const add = (key: string, kind: string): ReturnType<typeof sallyport> =>
    trust('add', '--key', file(key), '--kind', kind, '--name', `${kind}-1`);
  assert.equal((await add('agent.pub', 'agent')).code, 0);
  assert.equal((await add('relay.hex', 'relay')).code, 0);
  assert.equal((await add('agent.key', 'agent')).code, 0, 'the private key is the same signer');
  assert.deepEqual(
    loadTrust(file('trust.json')).signers.map(({ signer, kind }) => [signer, kind]),
    [
      [agent.signer, 'agent'],
      [relay.signer, 'relay'],
    ],
  );

  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
  writeFileSync(file('ec.pub'), other.export({ type: 'spki', format: 'pem' }));
  writeFileSync(file('text'), 'deadbeef');
  for (const [key, why] of [
    ['ec.pub', /ec key, not ed25519/],
    ['text', /no key in pem and no public key of 64 hex digits/],
    ['absent', /ENOENT|no such file/i],
  ] as const) {
    const refused = await add(key, 'agent');
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, why);
  }
  assert.equal((await add('olga.key', 'operator')).code, 0);
  assert.ok(existsSync(file('olga.key')), 'an operator is given a key');
});
