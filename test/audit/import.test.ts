import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  addSigner,
  createAuditRoot,
  ensureImporterRole,
  exportEvidence,
  importEvidence,
  type ImportReport,
  openAuditKey,
  revokeSigner,
  type VerifyReport,
} from '../../src/audit/index.ts';
import { type Manifest, signManifest } from '../../src/audit/export/manifest.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { sallyport } from '../support/command.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, openLog, rowsOf, tamper, TEST_PASSWORD, urlAs } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';
import { makeSite, type Site } from './export-fixture.ts';

const LOGIN = 'importer_berlin';
const NAME = 'berlin';
const FLUSH_MS = 20_000;

let server: TestPostgres;
let root: string;
let site: Site;
let whole: string;

before(async () => {
  server = await startPostgres();
  root = mkdtempSync(join(tmpdir(), 'sallyport-import-'));
  site = await makeSite(server, root);
  whole = join(root, 'whole');
  await exportTo(whole);
});
after(async () => {
  await server.stop();
  rmSync(root, { recursive: true, force: true });
});

const exportTo = (directory: string, interval: { from?: string; to?: string } = {}): Promise<Manifest> =>
  exportEvidence({
    databaseUrl: site.owner,
    interval: { from: interval.from, to: interval.to },
    notice: undefined,
    directory,
    key: openAuditKey(site.exportKeyFile),
    clock: systemClock,
  });

/** Another installation's database, and the login that imports into it. */
const elsewhere = async (): Promise<{ owner: string; importer: string }> => {
  const { owner } = await auditDatabase(server);
  await ensureImporterRole(owner, LOGIN, TEST_PASSWORD, NAME);
  return { owner, importer: urlAs(owner, LOGIN) };
};

const take = (importer: string, directory: string, trustFile = site.trustFile): Promise<ImportReport> =>
  importEvidence({ databaseUrl: importer, directory, trustFile, root: site.root });

const verify = (owner: string): Promise<VerifyReport> =>
  verifyTwice({
    databaseUrl: owner,
    trustFile: site.trustFile,
    siteTrust: new Map([[NAME, { trustFile: site.trustFile, root: site.root }]]),
    columns: true,
  });

const eventCount = async (url: string): Promise<number> =>
  Number((await rowsOf(url, 'select count(*) as n from audit.event'))[0]?.['n']);

const EVIDENCE = `select chain_id, seq, canonical from audit.event order by chain_id, seq`;
const SEALS = `select chain_id, batch_no, canonical, signature from audit.seal order by chain_id, batch_no`;

/** A copy of the export that a test may ruin. */
const copy = (t: Closer): string => {
  const directory = join(temporaryDirectory(t, 'import'), 'export');
  cpSync(whole, directory, { recursive: true });
  return directory;
};

const edit = (directory: string, change: (text: string) => string): void => {
  const file = join(directory, 'evidence-000001.jsonl');
  const text = readFileSync(file, 'utf8');
  const changed = change(text);
  assert.notEqual(changed, text, 'the test changed nothing');
  writeFileSync(file, changed);
};

const unsignedOf = ({ signature, ...rest }: Manifest): Omit<Manifest, 'signature'> => {
  assert.match(signature, /^[0-9a-f]{128}$/);
  return rest;
};

/** Signs again what now lies in the directory: what a thief of the export key can do. */
const resign = (directory: string, change: (manifest: Manifest) => Partial<Manifest> = () => ({})): void => {
  const file = join(directory, 'manifest.json');
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
  const files = manifest.files.map((entry) => {
    const bytes = readFileSync(join(directory, entry.name));
    return { ...entry, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
  const unsigned = { ...unsignedOf(manifest), files, ...change({ ...manifest, files }) };
  writeFileSync(file, JSON.stringify(signManifest(unsigned, openAuditKey(site.exportKeyFile))));
};

test('an import has the same evidence, bears its site, verifies, and repeated changes nothing', async () => {
  const { owner, importer } = await elsewhere();
  const report = await take(importer, whole);
  assert.equal(report.stored_events, await eventCount(site.owner));
  assert.equal(report.site, NAME);
  for (const sql of [EVIDENCE, SEALS])
    assert.deepEqual(await rowsOf(owner, sql), await rowsOf(site.owner, sql));
  const verified = await verify(owner);
  assert.deepEqual(verified.findings, []);
  assert.equal(verified.ok, true);
  assert.equal(verified.events, report.events);

  const again = await take(importer, whole);
  assert.deepEqual([again.stored_batches, again.stored_events], [0, 0]);
  assert.equal(await eventCount(owner), report.events);

  for (const view of ['decisions', 'denies', 'streams', 'active_streams', 'timeline', 'health']) {
    const rows = await rowsOf(owner, `select site, count(*)::int as n from audit.${view} group by site`);
    assert.deepEqual(
      rows.map((row) => row['site'] as string),
      [NAME],
      view,
    );
  }
  const skew = await rowsOf(
    owner,
    'select count(*)::int as n from audit.event where clock_skew_ms is not null',
  );
  assert.equal(skew[0]?.['n'], 0, 'that it came late says nothing of the writer’s clock');
});

test('the chains of a site are believed by the trust file of that site alone', async () => {
  const { owner, importer } = await elsewhere();
  await take(importer, whole);
  const directory = mkdtempSync(join(root, 'other-'));
  const other = await makeSite(server, directory);
  const report = await verifyTwice({
    databaseUrl: owner,
    trustFile: site.trustFile,
    siteTrust: new Map([[NAME, { trustFile: other.trustFile }]]),
  });
  assert.deepEqual([...new Set(report.findings.map((finding) => finding.kind))], ['signer_unknown']);
  const untold = await verifyTwice({ databaseUrl: owner, trustFile: other.trustFile });
  assert.ok(untold.notes.some((note) => note.includes(`site ${NAME}`)));
});

test('exports that follow one another are imported in order, and a hole is refused', async () => {
  // The one event after a flush: no batch before it reaches that far.
  const times = await rowsOf(
    site.owner,
    'select first_at from audit.seal where chain_id = $1 and event_count > 0 order by batch_no desc limit 1',
    [site.chains[0]],
  );
  const middle = (times[0]?.['first_at'] as Date).toISOString();
  const first = join(root, 'first');
  const second = join(root, 'second');
  const early = await exportTo(first, { to: middle });
  const late = await exportTo(second, { from: middle });
  assert.ok(early.events > 0 && late.events > 0);
  assert.equal(early.events + late.events, await eventCount(site.owner));
  const { owner, importer } = await elsewhere();
  await assert.rejects(take(importer, second), { code: 'ERR_AUDIT_IMPORT_GAP' });
  assert.equal(await eventCount(owner), 0);
  await take(importer, first);
  await take(importer, second);
  assert.deepEqual((await verify(owner)).findings, []);
  assert.deepEqual(await rowsOf(owner, EVIDENCE), await rowsOf(site.owner, EVIDENCE));
});

/** Each way to ruin an export, and how its refusal names the place. */
const RUINED: Readonly<Record<string, { ruin: (directory: string) => void; says: RegExp }>> = {
  'an event altered': {
    ruin: (directory) =>
      edit(directory, (text) => text.replace('"principal":"orders-app"', '"principal":"orders-apq"')),
    says: /evidence-000001\.jsonl, line \d+: chain [0-9a-f-]{36}, batch \d+: event \d+ is not the one that was sealed/,
  },
  'an event altered, and the manifest signed again': {
    ruin: (directory) => {
      edit(directory, (text) => text.replace('"principal":"orders-app"', '"principal":"orders-apq"'));
      resign(directory);
    },
    says: /event \d+ is not the one that was sealed/,
  },
  'an event taken out': {
    ruin: (directory) => {
      edit(directory, (text) => text.replace(/\{"chain":"[^"]+","seq":5,"event":.*\n/, ''));
      resign(directory);
    },
    says: /has event 6 in the place of event 5/,
  },
  'two events in the other order': {
    ruin: (directory) => {
      edit(directory, (text) =>
        text.replace(/(\{"chain":"[^"]+","seq":5,.*\n)(\{"chain":"[^"]+","seq":6,.*\n)/, '$2$1'),
      );
      resign(directory);
    },
    says: /has event 6 in the place of event 5/,
  },
  'a seal altered': {
    ruin: (directory) => {
      edit(directory, (text) => text.replace('"dropped":0', '"dropped":1'));
      resign(directory);
    },
    says: /batch 1: the signature is not one of s_/,
  },
  'the last batch cut': {
    ruin: (directory) => {
      edit(directory, (text) => text.slice(0, text.lastIndexOf('{"chain"', text.lastIndexOf('"leaves"'))));
      resign(directory, (manifest) => ({
        files: manifest.files.map((entry) => ({ ...entry, batches: entry.batches - 1 })),
      }));
    },
    says: /ends at batch \d+, not as the manifest says/,
  },
  'the file cut': {
    ruin: (directory) => edit(directory, (text) => text.slice(0, -100)),
    says: /the last line has no end/,
  },
  'white space after the last line': {
    ruin: (directory) => edit(directory, (text) => `${text} \n`),
    says: /the line is no seal/,
  },
  'the manifest altered': {
    ruin: (directory) => {
      const file = join(directory, 'manifest.json');
      writeFileSync(file, readFileSync(file, 'utf8').replace('"login": "postgres"', '"login": "somebody"'));
    },
    says: /does not bear the signature/,
  },
  'a file that leaves the directory': {
    ruin: (directory) =>
      resign(directory, (manifest) => ({
        files: manifest.files.map((entry) => ({ ...entry, name: '../evidence-000001.jsonl' })),
      })),
    says: /has no such form: files\.0\.name/,
  },
};

for (const [what, { ruin, says }] of Object.entries(RUINED)) {
  test(`refused, naming the place: ${what}`, async (t) => {
    const { owner, importer } = await elsewhere();
    const directory = copy(t);
    ruin(directory);
    await assert.rejects(take(importer, directory), (thrown: Error & { code?: string }) => {
      assert.equal(thrown.code, 'ERR_AUDIT_EXPORT_INVALID', thrown.message);
      assert.match(thrown.message, says);
      return true;
    });
    assert.equal(await eventCount(owner), 0, 'nothing of it was stored');
  });
}

test('an agent’s key signs no exports, an exporter’s key no events, a revoked one nothing', async (t) => {
  const { importer } = await elsewhere();
  const directory = copy(t);
  const file = join(directory, 'manifest.json');
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
  const agent = openAuditKey(join(root, 'audit-key.pem'));
  const exporter = { ...manifest.exporter, signer: agent.signer, public_key: agent.publicKey };
  writeFileSync(file, JSON.stringify(signManifest({ ...unsignedOf(manifest), exporter }, agent)));
  await assert.rejects(take(importer, directory), /does not name as exporter/);

  // The agent's key, vouched for as an exporter's only.
  const files = {
    rootKeyFile: join(root, 'root.pem'),
    trustFile: join(temporaryDirectory(t, 'trust'), 'trust.json'),
  };
  createAuditRoot(files);
  for (const keyFile of [join(root, 'audit-key.pem'), site.exportKeyFile])
    addSigner({
      ...files,
      publicKey: openAuditKey(keyFile).publicKey,
      kind: 'exporter',
      name: 'x',
      clock: systemClock,
    });
  await assert.rejects(take(importer, whole, files.trustFile), /does not know signer/);

  cpSync(site.trustFile, files.trustFile);
  revokeSigner({
    ...files,
    signer: openAuditKey(site.exportKeyFile).signer,
    clock: { ...systemClock, nowMs: () => 0 },
  });
  await assert.rejects(take(importer, whole, files.trustFile), /was revoked at/);
  const timeless = { ...unsignedOf(manifest), exported_at: 'some day' };
  writeFileSync(file, JSON.stringify(signManifest(timeless, openAuditKey(site.exportKeyFile))));
  await assert.rejects(take(importer, directory, files.trustFile), /was revoked at/);
});

test('an import is the site’s own login’s: into the source, by a writer, or over another version it is refused', async () => {
  await ensureImporterRole(site.owner, LOGIN, TEST_PASSWORD, NAME);
  await assert.rejects(take(urlAs(site.owner, LOGIN), whole), { code: 'ERR_AUDIT_IMPORT_REFUSED' });
  const { owner, importer } = await elsewhere();
  await assert.rejects(take(urlAs(owner, 'writer_1'), whole), { code: 'ERR_AUDIT_IMPORT_SITE' });
  await assert.rejects(ensureImporterRole(owner, 'somebody_else', TEST_PASSWORD, NAME), {
    code: 'ERR_AUDIT_IMPORT_SITE',
  });
  await assert.rejects(ensureImporterRole(owner, LOGIN, TEST_PASSWORD, 'paris'), {
    code: 'ERR_AUDIT_IMPORT_SITE',
  });
  for (const sql of [
    'select * from audit.event',
    'select * from audit.site',
    'insert into audit.site values (1)',
  ])
    await assert.rejects(rowsOf(importer, sql), { code: '42501' });
  await take(importer, whole);
  await tamper(owner, String.raw`update audit.seal set signature = '\x00' where batch_no = 1`);
  await assert.rejects(take(importer, whole), /has two versions/);
});

test('the word of another site removes nothing here', async (t) => {
  const { owner, importer } = await elsewhere();
  const hash = 'ab'.repeat(32);
  const data = { partitions: ['event_20250101'], before: '2025-01-02T00:00:00Z', request_sha256: hash };
  const namedBy = async (url: string): Promise<number> => {
    const log = await openLog(temporaryDirectory(t, 'import'), { database: { url } });
    await log.record({ type: 'audit.retained', subject: {}, data });
    assert.equal(await log.flush(FLUSH_MS), true);
    await log.close();
    return (await rowsOf(owner, `select from audit.retention_events('${hash}', '-infinity')`)).length;
  };
  assert.equal(await namedBy(importer), 0);
  assert.equal(await namedBy(urlAs(owner, 'writer_1')), 1);
});

test('a column of an imported event that was edited is found, its site too', async () => {
  const { owner, importer } = await elsewhere();
  await take(importer, whole);
  await tamper(owner, "update audit.event set site = 'paris' where seq = 3");
  const { findings } = await verify(owner);
  assert.equal(findings.length, site.chains.length);
  for (const finding of findings) {
    assert.deepEqual([finding.kind, finding.seq], ['column_altered', 3]);
    assert.match(finding.message, /site/);
  }
});

test('by command: site, export, import, verify, list', async (t) => {
  const directory = temporaryDirectory(t, 'import');
  const { owner } = await auditDatabase(server);
  const password = join(directory, 'password');
  writeFileSync(password, `${TEST_PASSWORD}\n`);
  const run = async (...args: string[]): Promise<string> => {
    const answer = await sallyport(['audit', ...args]);
    assert.equal(answer.code, 0, answer.stderr + answer.stdout);
    return answer.stdout;
  };
  await run('site', 'add', NAME, '--login', LOGIN, '--password-file', password, '--database', owner);
  const out = join(directory, 'out');
  const key = ['--key', site.exportKeyFile];
  await run('export', '--format', 'jsonl', '-o', out, ...key, '--database', site.owner);
  assert.deepEqual(readdirSync(out).sort(), ['evidence-000001.jsonl', 'manifest.json']);
  const trust = ['--trust', site.trustFile, '--root', site.root];
  const told = await run('import', out, ...trust, '--database', urlAs(owner, LOGIN));
  assert.match(
    told,
    /^site berlin: \d+ events of 2 chains verified, signed by s_[0-9a-f]{20}; \d+ are new\n$/,
  );
  const siteTrust = ['--site-trust', `${NAME}=${site.trustFile}@${site.root}`];
  const verified = await run(
    'verify',
    '--columns',
    '--trust',
    site.trustFile,
    ...siteTrust,
    '--database',
    owner,
  );
  assert.match(verified, /^verified: 2 chains/);
  assert.match(await run('site', 'list', '--database', owner), /berlin +importer_berlin +2/);
  edit(out, (text) => text.replace('"principal":"orders-app"', '"principal":"orders-apq"'));
  const refused = await sallyport(['audit', 'import', out, ...trust, '--database', urlAs(owner, LOGIN)]);
  assert.equal(refused.code, 1, 'evidence that is not so is no wrong usage');
  assert.match(refused.stderr, /event \d+ is not the one that was sealed/);
});
