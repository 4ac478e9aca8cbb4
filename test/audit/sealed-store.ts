import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { addSigner, createAuditRoot, openAuditKey } from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, decision, ending, openLog, rowsOf } from './audit-fixture.ts';

const FLUSH_MS = 20_000;
const FULL_BATCH = 200;
const ATTEMPTS = 10;

/** An audit database with what belongs to it outside: trust file, audit keys, spool with the head. */
export interface Store {
  readonly owner: string;
  readonly trustFile: string;
  readonly directory: string;
  readonly chains: readonly string[];
  readonly heads: readonly string[];
}

interface SealedStore {
  copy(t: Closer): Promise<Store>;
  close(): void;
}

/** Two chains of one writer, several batches each, with the trust file that vouches for it. */
const makeStore = async (server: TestPostgres, directory: string): Promise<Store> => {
  const { owner, writer } = await auditDatabase(server);
  const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  createAuditRoot(files);
  const { publicKey } = openAuditKey(join(directory, 'audit-key.pem'));
  addSigner({ ...files, publicKey, kind: 'agent', name: 'agent-1', clock: systemClock });
  const chains: string[] = [];
  for (const part of [0, 1]) {
    const log = await openLog(directory, { database: { url: writer } });
    chains.push(log.chainId);
    for (let n = 0; n < 220; n += 1) log.note(decision(part * 1000 + n, n % 10 !== 0));
    await log.record(ending(part * 1000 + 1));
    assert.equal(await log.flush(FLUSH_MS), true);
    await log.record(ending(part * 1000 + 2));
    assert.equal(await log.flush(FLUSH_MS), true);
    await log.close();
  }
  const heads = [join(directory, 'spool', 'head.json')];
  return { owner, trustFile: files.trustFile, directory, chains, heads };
};

/** A slow machine may seal the first batch by time, before it is full: then the tests' sequence numbers would not hold. */
const makeFullBatches = async (server: TestPostgres): Promise<Store> => {
  for (let attempt = 1; ; attempt += 1) {
    const store = await makeStore(server, mkdtempSync(join(tmpdir(), 'sallyport-verify-')));
    const rows = await rowsOf(
      store.owner,
      'select 1 from audit.seal where batch_no = 1 and event_count = $1',
      [FULL_BATCH],
    );
    if (rows.length === store.chains.length || attempt === ATTEMPTS) return store;
    rmSync(store.directory, { recursive: true, force: true });
  }
};

/** Makes the store once; each test takes a copy of its database and of its files. */
const sealedStore = async (server: TestPostgres): Promise<SealedStore> => {
  const original = await makeFullBatches(server);
  const database = new URL(original.owner).pathname.slice(1);
  let copies = 0;
  return {
    copy: async (t) => {
      copies += 1;
      const name = `${database}_copy_${copies}`;
      await rowsOf(server.url, `create database ${name} template ${database}`);
      const directory = temporaryDirectory(t, 'verify');
      cpSync(original.directory, directory, { recursive: true });
      const owner = new URL(original.owner);
      owner.pathname = `/${name}`;
      return {
        owner: owner.href,
        trustFile: join(directory, 'trust.json'),
        directory,
        chains: original.chains,
        heads: [join(directory, 'spool', 'head.json')],
      };
    },
    close: () => rmSync(original.directory, { recursive: true, force: true }),
  };
};

/** The store of a test file, on a server of its own that lives as long as the file's tests: a copy that a test may ruin. */
export const useSealedStore = (): Pick<SealedStore, 'copy'> => {
  let server: TestPostgres | undefined;
  let sealed: SealedStore | undefined;
  before(async () => {
    server = await startPostgres();
    sealed = await sealedStore(server);
  });
  after(async () => {
    await server?.stop();
    sealed?.close();
  });
  return {
    copy: (t) => {
      assert.ok(sealed, 'a copy is taken by a test');
      return sealed.copy(t);
    },
  };
};
