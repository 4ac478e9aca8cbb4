import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestContext } from 'node:test';
import { readArchive, writeArchive } from '../../src/policy/bundle/archive.ts';
import { LIBRARY_FILES } from '../../src/policy/tool/library.ts';
import { findOpa } from '../../src/policy/tool/opa.ts';
import {
  buildBundle,
  type GuardSettings,
  PolicyHost,
  type PolicyHostOptions,
  type PolicyInputBase,
  SHIPPED_POLICIES,
} from '../../src/policy/index.ts';
import { isAppError, silentLogger, systemClock } from '../../src/runtime/index.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const bin = join(root, 'bin/sallyport');
export const ORDERS = fileURLToPath(new URL('./fixtures/orders', import.meta.url));

/** OPA, built from its pinned module when there is none: about a minute, once. */
export const testOpa = async (): Promise<string> => {
  try {
    return await findOpa();
  } catch (error) {
    if (!isAppError(error, 'ERR_POLICY_OPA_MISSING')) throw error;
    spawnSync(process.execPath, [join(root, 'tools/build-policy-tools.mjs')], { stdio: 'inherit' });
    return findOpa();
  }
};

/** One command, to its end. */
export const sallyport = (
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  input = '',
): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, [bin, ...args], { encoding: 'utf8', input, env: { ...process.env, ...env } });

export const scratch = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-policy-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

export const write = (directory: string, files: Readonly<Record<string, string>>): void => {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), content);
  }
};

/** A policy directory: the shipped library, a fixture over it, then single files. */
export const policyDirectory = (
  t: TestContext,
  files: Readonly<Record<string, string>> = {},
  fixture?: string,
): string => {
  const directory = scratch(t);
  for (const name of LIBRARY_FILES) cpSync(join(SHIPPED_POLICIES, name), join(directory, name));
  if (fixture !== undefined) cpSync(fixture, directory, { recursive: true });
  write(directory, files);
  return directory;
};

export const compileOrders = async (
  t: TestContext,
  files: Readonly<Record<string, string>> = {},
  sequence = 7,
): Promise<Buffer> => {
  const directory = policyDirectory(t, files, ORDERS);
  return (await buildBundle(directory, undefined, { opa: await testOpa(), sequence })).bytes;
};

/** A bundle with decision entrypoints of its own, past the library: what a broken one would answer. */
export const rawBundle = async (
  t: TestContext,
  decision: string,
  options: { readonly capabilities?: boolean } = {},
): Promise<Buffer> => {
  const directory = scratch(t);
  write(directory, {
    'sallyport/decision.rego': `package sallyport.decision\n\n${decision}\n`,
    '.manifest': JSON.stringify({ revision: 'raw', roots: ['sallyport'] }),
  });
  const out = join(scratch(t), 'raw.tar.gz');
  const entrypoints = ['publish', 'stream'].flatMap((name) => ['-e', `sallyport/decision/${name}`]);
  const limits =
    options.capabilities === false ? [] : ['--capabilities', join(SHIPPED_POLICIES, 'capabilities.json')];
  const args = ['build', '-t', 'wasm', '-b', '.', ...entrypoints, ...limits, '-o', out];
  const run = spawnSync(await testOpa(), args, { cwd: directory, encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  const files = new Map(await readArchive(readFileSync(out), { fromOpa: true }));
  const metadata = { sallyport: { input: 1, sequence: 1 } };
  files.set('.manifest', Buffer.from(JSON.stringify({ revision: 'raw', roots: ['sallyport'], metadata })));
  return writeArchive(files);
};

const time = {
  unix_ms: Date.UTC(2027, 2, 30, 9),
  rfc3339: '2027-03-30T09:00:00Z',
  local: { date: '2027-03-30', weekday: 'tue', hour: 11, minute: 0, zone: 'Europe/Berlin' },
} as const;

/** A stream of `orders-app` to the order database, which the orders fixture allows. */
export const streamInput = (changes: Partial<PolicyInputBase> = {}): PolicyInputBase => ({
  v: 1,
  action: 'stream',
  namespace: 'relay.example.com',
  connection: { name: 'orders-db', id: 'c_1', labels: {} },
  target: { host: 'sql01.corp.example', port: 1433, addresses: ['10.1.2.3'] },
  key: keyOf('orders-app'),
  listener: { kind: 'sas', id: 'k_2', principal: 'defaultListener', claims: ['Listen'], proved_by: 'relay' },
  source: { gateway: 'gw1', gateway_proved: false, address: '203.0.113.9' },
  agent: { name: 'a1', instance: 'i1', labels: { site: 'warehouse' }, version: '1.0.0' },
  relay: { node: 'n1' },
  link: { id: 'l1', carrier: 'tcp' },
  stream: { id: 's1', kind: 'tcp', attempt: 1 },
  usage: { principal: { streams: 0 }, connection: { streams: 0 }, agent: { streams: 0 } },
  managed: { require_proof: false },
  time,
  ...changes,
});

export const keyOf = (principal: string): NonNullable<PolicyInputBase['key']> => ({
  kind: 'sas',
  id: 'k_1',
  principal,
  auth_rule: principal,
  slot: 'primary',
  claims: ['Send'],
  proved_by: 'relay',
});

export const openGuard: GuardSettings = {
  allowLoopbackPorts: new Set(),
  ownListeners: [],
  allowAuditDatabase: false,
};

/** Budgets far above what a shared machine takes, so that only what a test means to be late is late. */
const PATIENT = { budgetMs: 5_000, openWaitMs: 20_000 };

export const openHost = async (
  t: TestContext,
  bundle: Buffer | undefined,
  options: Partial<PolicyHostOptions> & { readonly bundleFile?: string } = {},
): Promise<PolicyHost> => {
  const bundleFile = options.bundleFile ?? join(scratch(t), 'bundle.tar.gz');
  if (bundle !== undefined && !existsSync(bundleFile)) writeFileSync(bundleFile, bundle);
  const host = await PolicyHost.open({
    clock: systemClock,
    logger: silentLogger,
    ...PATIENT,
    source: { file: bundleFile },
    ...options,
  });
  t.after(() => host.close());
  return host;
};
