import type pg from 'pg';
import { operatorOf, readRequest, requestHash, type SignedRequest } from '../retention/request.ts';
import { MAX_AHEAD_MS } from '../retention/witness.ts';
import { leafHash, merkleRoot, splitHashes } from '../seal/merkle.ts';
import { readSeal, type Seal, sealDigest } from '../seal/seal.ts';
import type { TrustFile } from '../seal/trust.ts';
import type { Findings, Retained } from './report.ts';
import type { SignerCheck } from './signer-check.ts';

/** A range of batches that may be missing. */
export interface Alibi {
  /** Id of the request. */
  readonly request: string;
  readonly first: number;
  readonly last: number;
  readonly beforeMs: number;
}

/** By chain. Plain data. */
export type Alibis = ReadonlyMap<string, readonly Alibi[]>;

/** What allows the events and the leaves of a batch to be missing. */
export const alibiFor = (alibis: Alibis, seal: Seal): Alibi | undefined =>
  alibis
    .get(seal.chain)
    ?.find((a) => seal.batch >= a.first && seal.batch <= a.last && Date.parse(seal.time) < a.beforeMs);

interface Believed extends SignedRequest {
  readonly operator: string;
  readonly hash: string;
}

export interface Retention {
  readonly alibis: Alibis;
  readonly believed: readonly Believed[];
  /** The latest `before` of requests that hold, milliseconds since 1970. */
  readonly removedBeforeMs: number | undefined;
}

interface Surroundings {
  readonly client: pg.ClientBase;
  readonly trust: TrustFile | undefined;
  readonly signers: SignerCheck;
  readonly keepMs: number | undefined;
  readonly findings: Findings;
}

interface RetentionRow {
  readonly retention_id: string;
  readonly before_ms: string;
  readonly partitions: string[];
  readonly signer: string;
  readonly signature: Buffer;
  readonly canonical: Buffer;
}

/** Requests that were carried out and that an operator signed. */
const signedRequests = async ({ client, trust, findings }: Surroundings): Promise<Believed[]> => {
  const { rows } = await client.query<RetentionRow>(
    `select r.retention_id, floor(extract(epoch from r.before) * 1000)::bigint as before_ms, r.partitions, r.signer,
       r.signature, r.canonical
     from audit.retention as r order by r.retention_id`,
  );
  const believed: Believed[] = [];
  for (const row of rows) {
    const text = row.canonical.toString('utf8');
    const request = readRequest(text);
    const name = `request ${row.retention_id} for retention`;
    if (request === undefined) {
      findings.add('retention_invalid', `${name} has no such form`);
      continue;
    }
    const partitions = request.days.flatMap((day) => [`event_${day}`, `seal_leaves_${day}`]);
    if (
      request.id !== row.retention_id ||
      request.signer !== row.signer ||
      Date.parse(request.before) !== Number(row.before_ms) ||
      partitions.join() !== row.partitions.join()
    ) {
      findings.add('retention_invalid', `${name}: columns differ from what was signed`);
    }
    if (trust === undefined) continue;
    const signed = { request, text, signature: row.signature };
    const checked = operatorOf(trust, signed);
    if ('problem' in checked) findings.add('retention_invalid', `${name}: ${checked.problem}`);
    else believed.push({ ...signed, operator: checked.operator.name, hash: requestHash(text) });
  }
  return believed;
};

interface WitnessRow {
  readonly chain_id: string;
  readonly seq: string;
  readonly event: Buffer;
  readonly seal: Buffer;
  readonly signature: Buffer;
  readonly leaves: Buffer;
}

const requestNamedBy = (canonical: string): string | undefined => {
  try {
    const event = JSON.parse(canonical) as { type?: unknown; data?: { request_sha256?: unknown } };
    const name = event.data?.request_sha256;
    return event.type === 'audit.retained' && typeof name === 'string' ? name : undefined;
  } catch {
    return undefined;
  }
};

/** When each request was recorded by a writer that is believed: the time of the earliest seal, by hash of the request. */
const recordedRequests = async ({ client, signers }: Surroundings): Promise<Map<string, number>> => {
  // The type is only derived, but hiding an event can only take an alibi away.
  const { rows } = await client.query<WitnessRow>(
    `select e.chain_id, e.seq, e.canonical as event, s.canonical as seal, s.signature, l.leaves
     from audit.event as e
     join audit.seal as s on s.chain_id = e.chain_id and e.seq between s.first_seq and s.last_seq
     join audit.seal_leaves as l on l.chain_id = s.chain_id and l.batch_no = s.batch_no
     where e.type = 'audit.retained'`,
  );
  const recorded = new Map<string, number>();
  for (const row of rows) {
    const name = requestNamedBy(row.event.toString('utf8'));
    const text = row.seal.toString('utf8');
    const seal = readSeal(text);
    if (name === undefined || seal === undefined || seal.chain !== row.chain_id) continue;
    const leaves = splitHashes(row.leaves).slice(0, seal.n);
    const sealed =
      signers.believes(seal, sealDigest(text), row.signature) &&
      merkleRoot(leaves).toString('hex') === seal.root &&
      leaves[Number(row.seq) - seal.first]?.equals(leafHash(row.event)) === true;
    const atMs = Date.parse(seal.time);
    if (sealed) recorded.set(name, Math.min(atMs, recorded.get(name) ?? atMs));
  }
  return recorded;
};

/** Those that a writer recorded when they were signed, and those that a later one of these names as the one before. */
const withRecord = (requests: readonly Believed[], recorded: ReadonlyMap<string, number>): Set<Believed> => {
  const byHash = new Map(requests.map((request) => [request.hash, request]));
  const holding = new Set<Believed>();
  const take = (one: Believed | undefined, latestMs: number): void => {
    for (let next = one, limitMs = latestMs; next !== undefined && !holding.has(next); ) {
      const signedMs = Date.parse(next.request.time);
      if (signedMs > limitMs) return;
      holding.add(next);
      limitMs = signedMs;
      next = next.request.previous === null ? undefined : byHash.get(next.request.previous);
    }
  };
  for (const request of requests) {
    const atMs = recorded.get(request.hash);
    if (atMs !== undefined) take(request, atMs + MAX_AHEAD_MS);
  }
  return holding;
};

/** The ranges whose last seal is the one that the request names. */
const addAlibis = async (
  { client, findings }: Surroundings,
  { request }: Believed,
  alibis: Map<string, Alibi[]>,
): Promise<void> => {
  const { rows } = await client.query<{ chain_id: string; batch_no: string; canonical: Buffer }>(
    `select s.chain_id, s.batch_no, s.canonical
     from unnest($1::uuid[], $2::bigint[]) as w (chain_id, batch_no)
     join audit.seal as s on s.chain_id = w.chain_id and s.batch_no = w.batch_no`,
    [request.batches.map(({ chain }) => chain), request.batches.map(({ last }) => last)],
  );
  const digests = new Map(
    rows.map((row) => [`${row.chain_id} ${row.batch_no}`, sealDigest(row.canonical.toString('utf8'))]),
  );
  for (const { chain, first, last, seal } of request.batches) {
    const digest = digests.get(`${chain} ${last}`)?.toString('hex');
    const at = { chain, batch: last };
    if (digest === undefined) {
      const message = `request ${request.id} for retention names a batch that is not there: the chain was cut`;
      findings.add('head_missing', message, at);
    } else if (digest !== seal) {
      findings.add(
        'head_differs',
        `request ${request.id} for retention names another seal for this batch`,
        at,
      );
    } else {
      const alibi = { request: request.id, first, last, beforeMs: Date.parse(request.before) };
      alibis.set(chain, [...(alibis.get(chain) ?? []), alibi]);
    }
  }
};

/**
 * What may be missing: batches that a request names which an operator of the trust file signed and a writer of the
 * trust file recorded and sealed, and that were older than `keepMs` when it was signed.
 */
export const readRetention = async (o: Surroundings): Promise<Retention> => {
  const requests = await signedRequests(o);
  const holding = requests.length === 0 ? new Set() : withRecord(requests, await recordedRequests(o));
  const alibis = new Map<string, Alibi[]>();
  const believed: Believed[] = [];
  for (const one of requests) {
    const { id, time, before } = one.request;
    const name = `request ${id} of ${one.operator} for retention`;
    const ageMs = Date.parse(time) - Date.parse(before);
    if (!holding.has(one)) {
      o.findings.add(
        'retention_unrecorded',
        `${name}: no sealed event of a writer that is believed names it`,
      );
    } else if (o.keepMs !== undefined && ageMs < o.keepMs) {
      o.findings.add('retention_too_young', `${name}, signed ${time}, is for everything before ${before}`);
    } else {
      if (o.keepMs === undefined) {
        o.findings.add('retention_unaccepted', `${name}: how long everything is kept was not said (--keep)`);
      }
      believed.push(one);
      await addAlibis(o, one, alibis);
    }
  }
  const removed = believed.map(({ request }) => Date.parse(request.before));
  return { alibis, believed, removedBeforeMs: removed.length === 0 ? undefined : Math.max(...removed) };
};

/** What is missing under each request that holds. */
export const retainedOf = (
  { believed }: Retention,
  totals: ReadonlyMap<
    string,
    { readonly retained: ReadonlyMap<string, { batches: number; events: number }> }
  >,
): Retained[] =>
  believed.map(({ request, operator }) => {
    const parts = [...totals.values()].flatMap(({ retained }) => retained.get(request.id) ?? []);
    return {
      retention_id: request.id,
      operator,
      signer: request.signer,
      time: request.time,
      before: request.before,
      batches: parts.reduce((sum, part) => sum + part.batches, 0),
      events: parts.reduce((sum, part) => sum + part.events, 0),
    };
  });
