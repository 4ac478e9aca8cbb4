import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  addSigner,
  type AuditLogOptions,
  createAuditRoot,
  openAuditKey,
  type VerifyOptions,
  type VerifyReport,
} from '../../src/audit/index.ts';
import { readAuditKey } from '../../src/audit/seal/audit-key.ts';
import {
  type Checkpoint,
  checkpointLine,
  readCheckpointLine,
  type SignedCheckpoint,
  signCheckpoint,
} from '../../src/audit/checkpoint/checkpoint.ts';
import { systemClock } from '../../src/runtime/index.ts';
import type { TestPostgres } from '../support/postgres.ts';
import { auditDatabase, decision, openLog } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';

const FLUSH_MS = 20_000;
/** Longer than any test: each log makes the one checkpoint of its end. */
const NEVER_MS = 3_600_000;
const STARTS = 3;

/** A writer with a database, its trust file, and a file of checkpoints. */
export interface CheckpointStore {
  readonly owner: string;
  readonly writer: string;
  readonly directory: string;
  readonly trust: { readonly rootKeyFile: string; readonly trustFile: string };
  /** The checkpoints, one for each chain, in order. */
  readonly file: string;
  readonly chains: readonly string[];
}

export const checkpointPlaces = (file: string): NonNullable<AuditLogOptions['checkpoints']> => ({
  file,
  service: undefined,
  everyMs: NEVER_MS,
});

/** Starts the writer once: a chain with an event, and at its end a checkpoint. Returns the chain. */
export const writeOnce = async (store: Omit<CheckpointStore, 'chains'>, number: number): Promise<string> => {
  const { directory, writer, file } = store;
  const log = await openLog(directory, { database: { url: writer }, checkpoints: checkpointPlaces(file) });
  await log.record(decision(number));
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.record(decision(number + 1));
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
  return log.chainId;
};

/** Three chains of a writer, each continuing the one before, and three checkpoints in the file and in the database. */
export const checkpointStore = async (server: TestPostgres, directory: string): Promise<CheckpointStore> => {
  const { owner, writer } = await auditDatabase(server);
  const trust = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  createAuditRoot(trust);
  const { publicKey } = openAuditKey(join(directory, 'audit-key.pem'));
  addSigner({ ...trust, publicKey, kind: 'agent', name: 'agent-1', clock: systemClock });
  const store = { owner, writer, directory, trust, file: join(directory, 'checkpoints.jsonl') };
  const chains: string[] = [];
  for (let start = 0; start < STARTS; start += 1) chains.push(await writeOnce(store, start * 10));
  return { ...store, chains };
};

export const linesOf = (file: string): string[] => readFileSync(file, 'utf8').trimEnd().split('\n');

export const checkpointsIn = (file: string): SignedCheckpoint[] =>
  linesOf(file).map((line) => {
    const signed = readCheckpointLine(line);
    assert.ok(signed !== undefined, line);
    return signed;
  });

/** The line of a checkpoint with other content, signed by the writer's own key or another one. */
export const resigned = (
  { directory }: CheckpointStore,
  { checkpoint }: SignedCheckpoint,
  changes: Partial<Checkpoint>,
  keyFile = join(directory, 'audit-key.pem'),
): string => {
  return checkpointLine(signCheckpoint({ ...checkpoint, ...changes }, readAuditKey(keyFile)));
};

/** Verifies with the store's own files but for what is given. */
export const verifyStore = (
  { owner: databaseUrl, trust, file }: CheckpointStore,
  options: Partial<VerifyOptions> = {},
): Promise<VerifyReport> =>
  verifyTwice({ databaseUrl, trustFile: trust.trustFile, checkpointFiles: [file], ...options });

export const found = (report: VerifyReport): string[] =>
  report.findings
    .map(({ kind, chain_id, batch_no }) =>
      chain_id === null ? kind : `${kind} ${chain_id} ${batch_no ?? '-'}`,
    )
    .sort();
