import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  addSigner,
  AuditReader,
  checkProof,
  createAuditRoot,
  EXPORTER_KIND,
  type InclusionProof,
  loadTrust,
  openAuditKey,
  type ProofReport,
  proveEvent,
  readProof,
  revokeSigner,
} from '../../src/audit/index.ts';
import { readAuditKey } from '../../src/audit/seal/audit-key.ts';
import { pathOf, rootOfPath } from '../../src/audit/proof/merkle-path.ts';
import { canonicalJson } from '../../src/audit/event/canonical.ts';
import { leafHash, merkleRoot } from '../../src/audit/seal/merkle.ts';
import { type Seal, signSeal } from '../../src/audit/seal/seal.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { projectRoot, sallyport } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { rowsOf, tamper } from './audit-fixture.ts';
import { runSecondVerifier, secondVerifierMissing } from './both-verifiers.ts';
import { type Store, useSealedStore } from './sealed-store.ts';

const PROVEN_SEQ = 7;

const sealed = useSealedStore();

const prove = async (s: Store, eventId: string): Promise<InclusionProof> => {
  const reader = await AuditReader.connect(s.owner);
  try {
    return await proveEvent(reader, eventId);
  } finally {
    await reader.close();
  }
};

const eventIdAt = async (s: Store, seq: number): Promise<string> => {
  const [row] = await rowsOf(s.owner, 'select event_id from audit.event where chain_id = $1 and seq = $2', [
    s.chains[0],
    seq,
  ]);
  return row?.['event_id'] as string;
};

/** Checks with both verifiers, and returns the kinds of findings. @throws AssertionError when they do not agree */
const check = async (s: Store, proof: unknown, trustFile = s.trustFile): Promise<string[]> => {
  const file = join(s.directory, 'proof.json');
  writeFileSync(file, JSON.stringify(proof));
  const first = checkProof(readProof(readFileSync(file, 'utf8'), file), loadTrust(trustFile));
  if (secondVerifierMissing === false) {
    const { code, stdout, stderr } = await runSecondVerifier(['--proof', file, '--trust', trustFile]);
    assert.equal(code, first.ok ? 0 : 1, stderr);
    const facts = ({ findings, ...report }: ProofReport): object => ({
      ...report,
      findings: findings.map(({ kind, chain_id, batch_no, seq }) => ({ kind, chain_id, batch_no, seq })),
    });
    assert.deepEqual(facts(JSON.parse(stdout) as ProofReport), facts(first));
  }
  return first.findings.map(({ kind }) => kind);
};

const flipped = (hex: string): string => (hex.startsWith('0') ? '1' : '0') + hex.slice(1);

test('an event is proved without a database, and by nothing that was altered', async (t) => {
  const s = await sealed.copy(t);
  const proof = await prove(s, await eventIdAt(s, PROVEN_SEQ));
  assert.equal(proof.seq, PROVEN_SEQ);
  assert.deepEqual(await check(s, proof), []);
  const seal = JSON.parse(proof.seal) as Seal;
  const altered: readonly [string, Partial<InclusionProof>, string[]][] = [
    ['event', { event: proof.event.replace('orders-app', 'orders-apq') }, ['event_altered']],
    ['seq', { seq: PROVEN_SEQ + 1 }, ['event_altered']],
    ['seq out of the batch', { seq: 100_000 }, ['event_altered']],
    ['path', { path: [flipped(proof.path[0]!), ...proof.path.slice(1)] }, ['event_altered']],
    ['path, shorter', { path: proof.path.slice(1) }, ['event_altered']],
    ['path, longer', { path: [...proof.path, proof.path[0]!] }, ['event_altered']],
    ['signature', { signature: flipped(proof.signature) }, ['signature_invalid']],
    ['seal, no seal', { seal: `${proof.seal} ` }, ['seal_altered']],
    [
      'seal, its root',
      { seal: canonicalJson({ ...seal, root: flipped(seal.root) }) },
      ['signature_invalid', 'event_altered'],
    ],
    [
      'seal, its time',
      { seal: canonicalJson({ ...seal, time: '2020-01-01T00:00:00.000Z' }) },
      ['signature_invalid'],
    ],
    [
      'seal, its count',
      { seal: canonicalJson({ ...seal, n: seal.n + 1 }) },
      ['signature_invalid', 'seal_altered'],
    ],
    [
      'seal, its signer',
      { seal: canonicalJson({ ...seal, signer: `s_${'0'.repeat(20)}` }) },
      ['signer_unknown'],
    ],
  ];
  for (const [name, change, kinds] of altered) {
    assert.deepEqual(await check(s, { ...proof, ...change }), kinds, name);
  }
  for (const change of [
    { v: 2 },
    { more: 1 },
    { path: 'x' },
    { seq: 0 },
    { signature: '' },
    { event: '\ud800' },
  ]) {
    assert.throws(() => readProof(JSON.stringify({ ...proof, ...change }), 'proof.json'), {
      code: 'ERR_AUDIT_PROOF_INVALID',
    });
  }
});

test('a proof holds for the signers of the trust file only, until they are revoked', async (t) => {
  const s = await sealed.copy(t);
  const proof = await prove(s, await eventIdAt(s, PROVEN_SEQ));
  const own = openAuditKey(join(s.directory, 'forger.pem'));
  const seal = { ...(JSON.parse(proof.seal) as Seal), signer: own.signer };
  const forged = signSeal(seal, own);
  const forgery = { ...proof, seal: forged.text, signature: forged.signature.toString('hex') };
  assert.deepEqual(await check(s, forgery), ['signer_unknown']);
  // Keys of those who use the database: what they sign is no evidence.
  for (const kind of [EXPORTER_KIND, 'operator']) {
    const files = {
      rootKeyFile: join(s.directory, `${kind}-root.pem`),
      trustFile: join(s.directory, `${kind}.json`),
    };
    createAuditRoot(files);
    addSigner({ ...files, publicKey: own.publicKey, kind, name: kind, clock: systemClock });
    assert.deepEqual(await check(s, forgery, files.trustFile), ['signer_unknown'], kind);
  }
  assert.equal(checkProof(proof, undefined).ok, false, 'nothing vouches for it');
  const other = { rootKeyFile: join(s.directory, 'other.pem'), trustFile: join(s.directory, 'other.json') };
  createAuditRoot(other);
  assert.deepEqual(await check(s, proof, other.trustFile), ['signer_unknown']);
  const trustFile = join(s.directory, 'trust.json');
  const { signer, time } = JSON.parse(proof.seal) as Seal;
  const early = { ...systemClock, nowMs: () => Date.parse(time) - 1 };
  revokeSigner({ rootKeyFile: join(s.directory, 'root.pem'), trustFile, signer, clock: early });
  assert.deepEqual(await check(s, proof), ['signer_revoked']);
});

test('a trust file that names a signer twice is refused by both verifiers, whoever signed it', async (t) => {
  const s = await sealed.copy(t);
  const proofFile = join(s.directory, 'proof.json');
  writeFileSync(proofFile, JSON.stringify(await prove(s, await eventIdAt(s, PROVEN_SEQ))));
  const rootKeyFile = join(s.directory, 'root.pem');
  const { signature, ...trust } = loadTrust(s.trustFile);
  assert.equal(signature.length, 128);
  const [first] = trust.signers;
  assert.ok(first !== undefined);
  const early = { ...first, revoked_at: '2020-01-01T00:00:00.000Z' };
  const write = (signers: readonly object[]): string => {
    const unsigned = { ...trust, signers };
    const digest = createHash('sha256').update('sallyport.audit.trust.v1\n').update(canonicalJson(unsigned));
    const signed = {
      ...unsigned,
      signature: readAuditKey(rootKeyFile).sign(digest.digest()).toString('hex'),
    };
    const file = join(s.directory, 'twice.json');
    writeFileSync(file, JSON.stringify(signed));
    return file;
  };
  assert.equal(
    loadTrust(write(trust.signers)).signers.length,
    trust.signers.length,
    'signed as it should be',
  );
  for (const twice of [
    [...trust.signers, early],
    [early, ...trust.signers],
  ]) {
    const file = write(twice);
    assert.throws(() => loadTrust(file), { code: 'ERR_AUDIT_TRUST_INVALID', message: /is there twice/ });
    if (secondVerifierMissing !== false) continue;
    const { code, stderr } = await runSecondVerifier(['--proof', proofFile, '--trust', file]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /is there twice/);
  }
});

test('what is said about a database is refused beside --proof, not passed over', async (t) => {
  const s = await sealed.copy(t);
  const file = join(s.directory, 'proof.json');
  writeFileSync(file, JSON.stringify(await prove(s, await eventIdAt(s, PROVEN_SEQ))));
  const verify = (...args: string[]): ReturnType<typeof sallyport> =>
    sallyport(['audit', 'verify', '--proof', file, ...args]);
  assert.equal((await verify('--trust', s.trustFile)).code, 0);
  for (const [args, says] of [
    [['--trust', s.trustFile, '--columns'], /not --columns/],
    [['--trust', s.trustFile, '--keep', '400d', '--database', s.owner], /not --database, --keep/],
    [['--trust', s.trustFile, '--heads', 'head.json'], /not --heads/],
    [['--trust', s.trustFile, '--site-trust', 'a=b'], /not --site-trust/],
    [['--trust', s.trustFile, '--control'], /not --control/],
    [['--trust', s.trustFile, '--state', '.'], /not --state/],
    [['--root', 'ab'.repeat(32)], /give --trust as well/],
  ] as const) {
    const { code, stderr } = await verify(...args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, says);
  }
});

test('what is unknown, unsealed or altered cannot be proved', async (t) => {
  const s = await sealed.copy(t);
  const id = await eventIdAt(s, PROVEN_SEQ);
  const unknown = { code: 'ERR_AUDIT_EVENT_UNKNOWN' };
  await assert.rejects(prove(s, '019ab000-0000-7000-8000-0000000fffff'), unknown);
  await assert.rejects(prove(s, 'x'), unknown);
  await tamper(
    s.owner,
    `update audit.event set canonical = 'x' where chain_id = '${s.chains[0]!}' and seq = ${PROVEN_SEQ + 1}`,
  );
  await assert.rejects(prove(s, id), { code: 'ERR_AUDIT_UNPROVABLE' });
  await tamper(s.owner, `delete from audit.seal where chain_id = '${s.chains[0]!}'`);
  await assert.rejects(prove(s, id), { code: 'ERR_AUDIT_UNPROVABLE' });
});

test('a path leads to the root from every leaf of every tree, and from no other place', () => {
  const leaves = Array.from({ length: 40 }, (_, at) => leafHash(Buffer.from(String(at))));
  for (let count = 1; count <= leaves.length; count += 1) {
    const tree = leaves.slice(0, count);
    const root = merkleRoot(tree);
    for (const [at, leaf] of tree.entries()) {
      const path = pathOf(tree, at);
      assert.deepEqual(rootOfPath(leaf, at, count, path), root);
      const elsewhere = tree.findIndex((_, other) => {
        return other !== at && rootOfPath(leaf, other, count, path)?.equals(root) === true;
      });
      assert.equal(elsewhere, -1, `leaf ${at} of ${count} also at ${elsewhere}`);
    }
  }
});

test('the proof of the page holds', (t) => {
  const page = readFileSync(join(projectRoot, 'docs/audit-format.md'), 'utf8');
  const text = /^Vector: event 2 of the seal above\.\n```\n(.+)\n```$/m.exec(page)?.[1] ?? '';
  const trustText = /^Vector \(root and signer have .*\n```\n(.+)\n```$/m.exec(page)?.[1] ?? '';
  const file = join(temporaryDirectory(t, 'proof'), 'trust.json');
  writeFileSync(file, trustText);
  const report = checkProof(readProof(text, 'the page'), loadTrust(file));
  assert.deepEqual([report.ok, report.batch_no, report.seq], [true, 1, 2]);
});
