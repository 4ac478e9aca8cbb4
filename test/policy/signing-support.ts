import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { readArchive, writeArchive } from '../../src/policy/bundle/archive.ts';
import { type SignatureAlgorithm, verificationKey, type VerificationKey } from '../../src/policy/index.ts';
import { scratch, testOpa } from './support.ts';

/** A key pair in PEM, as a deployment has it in files. */
export interface TestKey {
  readonly algorithm: SignatureAlgorithm;
  readonly privatePem: string;
  readonly publicPem: string;
}

const RSA_BITS = 2_048;

export const makeKey = (algorithm: SignatureAlgorithm): TestKey => {
  const publicKeyEncoding = { type: 'spki', format: 'pem' } as const;
  const privateKeyEncoding = { type: 'pkcs8', format: 'pem' } as const;
  const { privateKey, publicKey } =
    algorithm === 'RS256'
      ? generateKeyPairSync('rsa', { modulusLength: RSA_BITS, publicKeyEncoding, privateKeyEncoding })
      : generateKeyPairSync('ec', { namedCurve: 'P-256', publicKeyEncoding, privateKeyEncoding });
  return { algorithm, privatePem: privateKey, publicPem: publicKey };
};

export const trusted = (key: TestKey, id = 'test'): VerificationKey =>
  verificationKey(id, key.algorithm, key.publicPem);

export const edit = async (bundle: Buffer, change: (files: Map<string, Buffer>) => void): Promise<Buffer> => {
  const files = new Map(await readArchive(bundle));
  change(files);
  return writeArchive(files);
};

/** The content of `.signatures.json` as the real `opa sign` writes it for a bundle. */
export const signaturesByOpa = async (t: TestContext, bundle: Buffer, key: TestKey): Promise<Buffer> => {
  const directory = scratch(t);
  writeFileSync(join(directory, 'bundle.tar.gz'), bundle);
  writeFileSync(join(directory, 'key.pem'), key.privatePem);
  const args = ['sign', '--signing-key', 'key.pem', '--signing-alg', key.algorithm, '-b', 'bundle.tar.gz'];
  const run = spawnSync(await testOpa(), args, { cwd: directory, encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stdout + run.stderr);
  return readFileSync(join(directory, '.signatures.json'));
};

/** What the real `opa build` says of a signed bundle: undefined when it takes it. */
export const refusalByOpa = async (
  t: TestContext,
  bundle: Buffer,
  key: TestKey,
): Promise<string | undefined> => {
  const directory = scratch(t);
  writeFileSync(join(directory, 'bundle.tar.gz'), bundle);
  writeFileSync(join(directory, 'key.pem'), key.publicPem);
  mkdirSync(join(directory, 'out'));
  const args = ['build', '-b', 'bundle.tar.gz', '--verification-key', 'key.pem'];
  const run = spawnSync(
    await testOpa(),
    [...args, '--signing-alg', key.algorithm, '-o', join('out', 'bundle.tar.gz')],
    { cwd: directory, encoding: 'utf8' },
  );
  return run.status === 0 ? undefined : run.stdout + run.stderr;
};
