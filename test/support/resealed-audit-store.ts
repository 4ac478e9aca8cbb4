import { join } from 'node:path';
import pg from 'pg';
import { addSigner, createAuditRoot, openAuditKey } from '../../src/audit/index.ts';
import { leafHash, merkleRoot } from '../../src/audit/seal/merkle.ts';
import { type Seal, signSeal } from '../../src/audit/seal/seal.ts';
import { systemClock } from '../../src/runtime/index.ts';

interface SealedBatch {
  readonly batch_no: string;
  readonly first_seq: string;
  readonly last_seq: string;
  readonly sealed_at: Date;
}

const leavesOf = async (client: pg.Client, chain: string, batch: SealedBatch): Promise<Buffer[]> => {
  const { rows } = await client.query<{ canonical: Buffer }>(
    'select canonical from audit.event where chain_id = $1 and seq between $2 and $3 order by seq',
    [chain, batch.first_seq, batch.last_seq],
  );
  return rows.map(({ canonical }) => leafHash(canonical));
};

const SEAL_SQL = `
  update audit.seal set root = decode($3, 'hex'), seal = $4, prev_seal = decode($5, 'hex'), signer = $6, signature = $7,
    canonical = convert_to($8, 'UTF8'), (first_at, last_at) = (
      select min(e.occurred_at), max(e.occurred_at) from audit.event as e
      where e.chain_id = $1 and e.seq between $9 and $10)
  where chain_id = $1 and batch_no = $2`;

/** Seals a store of generated events anew, so that it verifies; returns its trust file. */
export const resealStore = async (owner: string, directory: string): Promise<string> => {
  const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  createAuditRoot(files);
  const key = openAuditKey(join(directory, 'audit-key.pem'));
  addSigner({ ...files, publicKey: key.publicKey, kind: 'agent', name: 'agent-1', clock: systemClock });
  const client = new pg.Client(owner);
  await client.connect();
  try {
    await client.query("set session_replication_role to 'replica'");
    await client.query("set timezone to 'UTC'");
    const { rows: chains } = await client.query<{ chain_id: string }>('select chain_id from audit.chain');
    for (const { chain_id: chain } of chains) {
      const { rows: batches } = await client.query<SealedBatch>(
        'select batch_no, first_seq, last_seq, sealed_at from audit.seal where chain_id = $1 order by batch_no',
        [chain],
      );
      let prev: string | null = null;
      await client.query('begin');
      for (const batch of batches) {
        const leaves = await leavesOf(client, chain, batch);
        const seal: Seal = {
          v: 1,
          alg: 'Ed25519',
          chain,
          batch: Number(batch.batch_no),
          first: Number(batch.first_seq),
          last: Number(batch.last_seq),
          n: leaves.length,
          dropped: 0,
          root: merkleRoot(leaves).toString('hex'),
          prev,
          prev_chain: null,
          signer: key.signer,
          time: batch.sealed_at.toISOString(),
          epoch: 1,
          final: false,
        };
        const { text, digest, signature } = signSeal(seal, key);
        await client.query(SEAL_SQL, [
          chain,
          batch.batch_no,
          seal.root,
          digest,
          prev,
          key.signer,
          signature,
          text,
          batch.first_seq,
          batch.last_seq,
        ]);
        await client.query('update audit.seal_leaves set leaves = $3 where chain_id = $1 and batch_no = $2', [
          chain,
          batch.batch_no,
          Buffer.concat(leaves),
        ]);
        prev = digest.toString('hex');
      }
      await client.query(
        `update audit.chain as k set last_batch = s.batch_no, last_seq = s.last_seq, head = s.seal, final = false,
           signer = $2, events = s.last_seq, dropped = 0
         from audit.seal as s where k.chain_id = $1 and s.chain_id = $1
           and s.batch_no = (select max(batch_no) from audit.seal where chain_id = $1)`,
        [chain, key.signer],
      );
      await client.query('commit');
    }
    await client.query('vacuum analyze');
  } finally {
    await client.end();
  }
  return files.trustFile;
};
