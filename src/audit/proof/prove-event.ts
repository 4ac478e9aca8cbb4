import { auditError } from '../errors.ts';
import type { AuditReader } from '../query/reader.ts';
import { isUuid } from '../query/uuid.ts';
import { leafHash, merkleRoot } from '../seal/merkle.ts';
import { readSeal } from '../seal/seal.ts';
import type { InclusionProof } from './inclusion-proof.ts';
import { pathOf } from './merkle-path.ts';

interface Found {
  readonly chain: string;
  readonly seq: number;
  readonly canonical: string;
}

interface SealFound {
  readonly first: number;
  readonly last: number;
  readonly canonical: string;
  readonly signature: string;
}

const bytesOf = (hex: string): Buffer => Buffer.from(hex, 'hex');

/**
 * Makes the proof that an event is in the trail, from the events and the seal of its batch. Of a change that was handed over
 * twice it is the event stored first. The signature is not checked here: whoever gets the proof does that.
 * @throws AppError ERR_AUDIT_EVENT_UNKNOWN; ERR_AUDIT_UNPROVABLE when no seal covers it, or its batch is not what was sealed;
 * ERR_AUDIT_QUERY_FAILED
 */
export const proveEvent = async (reader: AuditReader, eventId: string): Promise<InclusionProof> => {
  const unknown = auditError('ERR_AUDIT_EVENT_UNKNOWN', `no event ${eventId} in this database`);
  if (!isUuid(eventId)) throw unknown;
  const { rows: events } = await reader.query(
    `select chain_id as chain, seq, canonical from audit.event
     where event_id = $1::uuid order by recorded_at, chain_id, seq limit 1`,
    [eventId],
  );
  const event = events[0] as Found | undefined;
  if (event === undefined) throw unknown;
  const { rows: seals } = await reader.query(
    `select first_seq as first, last_seq as last, canonical, signature from audit.seal
     where chain_id = $1 and first_seq <= $2 order by first_seq desc limit 1`,
    [event.chain, event.seq],
  );
  const found = seals[0] as SealFound | undefined;
  const seal = found === undefined ? undefined : readSeal(bytesOf(found.canonical).toString('utf8'));
  if (found === undefined || seal === undefined || event.seq < seal.first || event.seq > seal.last) {
    throw auditError('ERR_AUDIT_UNPROVABLE', `no seal covers event ${event.seq} of chain ${event.chain}`);
  }
  const { rows: batch } = await reader.query(
    'select canonical from audit.event where chain_id = $1 and seq between $2 and $3 order by seq',
    [event.chain, seal.first, seal.last],
  );
  const leaves = batch.map((row) => leafHash(bytesOf(row['canonical'] as string)));
  if (merkleRoot(leaves).toString('hex') !== seal.root) {
    const message = `batch ${seal.batch} of chain ${event.chain} is not what was sealed: run \`sallyport audit verify\``;
    throw auditError('ERR_AUDIT_UNPROVABLE', message);
  }
  return {
    v: 1,
    event: bytesOf(event.canonical).toString('utf8'),
    seq: event.seq,
    path: pathOf(leaves, event.seq - seal.first).map((hash) => hash.toString('hex')),
    seal: bytesOf(found.canonical).toString('utf8'),
    signature: found.signature,
  };
};
