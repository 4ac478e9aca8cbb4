import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import { DEFAULT_BUNDLE_FILE } from '../../src/policy/index.ts';
import { makeKey, trusted } from '../policy/signing-support.ts';
import { testOpa } from '../policy/support.ts';
import { sallyport } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const EC = makeKey('ES256');

test('policy sign signs over the bundle or into another file, and says by what', async (t) => {
  const directory = temporaryDirectory(t);
  const file = (name: string): string => join(directory, name);
  writeFileSync(file('key.pem'), EC.privatePem);
  writeFileSync(file('key.pub'), EC.publicPem);
  const bundle = readFileSync(DEFAULT_BUNDLE_FILE);
  writeFileSync(file('bundle.tar.gz'), bundle);
  const sign = (...args: string[]) =>
    sallyport(['--json', 'policy', 'sign', 'bundle.tar.gz', ...args], { cwd: directory });
  const keys = { keys: [trusted(EC)], requireSigned: true };

  const elsewhere = await sign('--key', 'key.pem', '--key-id', 'k1', '-o', 'signed.tar.gz');
  assert.equal(elsewhere.code, 0, elsewhere.stderr);
  const said = JSON.parse(elsewhere.stdout) as Record<string, unknown>;
  const signed = await readBundle(readFileSync(file('signed.tar.gz')), keys);
  assert.deepEqual([said['algorithm'], said['key_id'], said['sha256']], ['ES256', 'k1', signed.sha256]);
  assert.ok(readFileSync(file('bundle.tar.gz')).equals(bundle));

  writeFileSync(file('signer'), '#!/bin/sh\nopenssl dgst -sha256 -sign key.pem | base64\n');
  chmodSync(file('signer'), 0o755);
  const inPlace = await sign('--signer', './signer', '--alg', 'ES256', '--public-key', 'key.pub');
  assert.equal(inPlace.code, 0, inPlace.stderr);
  const again = await readBundle(readFileSync(file('bundle.tar.gz')), keys);
  assert.equal(again.contentSha256, signed.contentSha256);

  for (const [args, code, message] of [
    [[], 2, /either --key FILE or --signer CMD/],
    [['--key', 'key.pem', '--signer', 'x'], 2, /either --key FILE or --signer CMD/],
    [['--key', 'key.pem', '--alg', 'HS256'], 2, /RS256 or ES256/],
    [['--key', 'key.pem', '--alg', 'RS256'], 1, /signs ES256/],
    [['--key', 'none.pem'], 2, /cannot read none.pem/],
    [['--signer', './signer'], 2, /--alg/],
    [['--signer', 'false', '--alg', 'ES256'], 1, /ended with 1/],
    [['--key', 'key.pem', '--key-id', ''], 2, /--key-id/],
  ] as const) {
    const refused = await sign(...args);
    assert.equal(refused.code, code, refused.stderr);
    assert.match(refused.stderr, message);
  }
});

test('policy build --after counts on from the bundle that is replaced', async (t) => {
  await testOpa();
  const out = join(temporaryDirectory(t), 'next.tar.gz');
  const build = (...args: string[]) =>
    sallyport(['--json', 'policy', 'build', 'policies', '-o', out, ...args]);
  const first = await build('--after', DEFAULT_BUNDLE_FILE);
  assert.equal(first.code, 0, first.stderr);
  assert.equal((JSON.parse(first.stdout) as { sequence: number }).sequence, 2);
  const second = await build('--after', out);
  assert.equal((JSON.parse(second.stdout) as { sequence: number }).sequence, 3);
  assert.equal((await build('--after', out, '--sequence', '9')).code, 2);
  assert.equal((await build('--after', `${out}.none`)).code, 2);
});
