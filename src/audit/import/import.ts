import { join } from 'node:path';
import type pg from 'pg';
import { foreignCodeOf, isAppError } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { type Manifest, MANIFEST_FILE, readManifest } from '../export/manifest.ts';
import { loadTrust, type TrustFile } from '../seal/trust.ts';
import { newClient, withClient } from '../store/client.ts';
import { refusalText } from '../store/no-schema.ts';
import { EvidenceReader, type VerifiedBatch } from './evidence-reader.ts';

/** Canonical bytes of one round trip, about, and the most seals of one. */
const MAX_CALL_BYTES = 4 * 1024 * 1024;
const MAX_CALL_SEALS = 1_000;

export interface ImportOptions {
  /** Of the login that imports for the site. */
  readonly databaseUrl: string;
  /** Directory of the export. */
  readonly directory: string;
  /** Trust file of the other site, and the raw public key (hex) of the audit root that must have signed it. */
  readonly trustFile: string;
  readonly root: string | undefined;
  readonly onProgress?:
    | ((done: { step: 'verified' | 'stored'; events: number; totalEvents: number }) => void)
    | undefined;
}

export interface ImportReport {
  readonly site: string;
  readonly chains: number;
  /** In the export. */
  readonly batches: number;
  readonly events: number;
  /** Stored now; the others were there already. */
  readonly stored_batches: number;
  readonly stored_events: number;
  /** Who signed the export. */
  readonly signer: string;
}

interface OwnChain {
  readonly chain_id: string;
  readonly last_batch: string;
  readonly head: Buffer | null;
  readonly final: boolean;
}

/** Refuses an export that would leave a hole: chains that begin, or are continued, where nothing is here. */
const checkContinuity = (manifest: Manifest, own: readonly OwnChain[]): void => {
  const heads = new Map(own.map((chain) => [chain.chain_id, chain]));
  const gap = (what: string): Error =>
    auditError('ERR_AUDIT_IMPORT_GAP', `${what}: import the earlier export first`);
  const promised = new Map(manifest.chains.map((chain) => [chain.chain, chain]));
  for (const chain of manifest.chains) {
    const here = Number(heads.get(chain.chain)?.last_batch ?? 0);
    if (chain.first_batch > here + 1)
      throw gap(
        `chain ${chain.chain} begins at batch ${chain.first_batch}, and batch ${here} is the last one here`,
      );
    if (chain.first_batch !== 1 || chain.prev_chain === null) continue;
    const before = promised.get(chain.prev_chain)?.head ?? heads.get(chain.prev_chain)?.head?.toString('hex');
    if (before !== chain.prev)
      throw gap(`chain ${chain.chain} continues chain ${chain.prev_chain}, whose end is not here`);
  }
};

/** Batches in pieces of about 4 MiB. */
async function* piecesOf(
  batches: AsyncIterable<VerifiedBatch>,
): AsyncGenerator<VerifiedBatch[], void, undefined> {
  let piece: VerifiedBatch[] = [];
  let bytes = 0;
  for await (const batch of batches) {
    piece.push(batch);
    bytes += batch.events.reduce((sum, event) => sum + event.length, 0);
    if (bytes < MAX_CALL_BYTES && piece.length < MAX_CALL_SEALS) continue;
    yield piece;
    piece = [];
    bytes = 0;
  }
  if (piece.length > 0) yield piece;
}

const REFUSALS: Readonly<Record<string, string>> = {
  fork: 'another seal is in its place: the evidence of this chain has two versions',
  gap: 'it does not continue what is here',
  not_owner: 'the chain was not written by this login: is this the database that it comes from?',
};

/** Stores a piece; returns how many batches and events were new. @throws AppError ERR_AUDIT_IMPORT_REFUSED */
const append = async (
  client: pg.Client,
  piece: readonly VerifiedBatch[],
): Promise<{ batches: number; events: number }> => {
  const events = piece.flatMap((batch) => batch.events);
  const { rows } = await client.query<{ outcome: string }>(
    'select outcome from audit.append($1, $2, $3, $4, now())',
    [
      piece.map((batch) => batch.text),
      Buffer.concat(piece.map((batch) => batch.signature)),
      Buffer.concat(events),
      events.map((event) => event.length),
    ],
  );
  const stored = { batches: 0, events: 0 };
  for (const [index, { outcome }] of rows.entries()) {
    const seal = piece[index]?.seal;
    if (outcome === 'stored') {
      stored.batches += 1;
      stored.events += seal?.n ?? 0;
    } else if (outcome !== 'acknowledged') {
      throw auditError(
        'ERR_AUDIT_IMPORT_REFUSED',
        `chain ${seal?.chain ?? ''}, batch ${seal?.batch ?? 0} is refused: ${REFUSALS[outcome] ?? outcome}`,
      );
    }
  }
  return stored;
};

const siteOf = async (client: pg.Client): Promise<string> => {
  const { rows } = await client.query<{ site: string | null; login: string }>(
    'select audit.importing_site() as site, session_user::text as login',
  );
  const { site = null, login = '' } = rows[0] ?? {};
  if (site !== null) return site;
  throw auditError(
    'ERR_AUDIT_IMPORT_SITE',
    `login ${login} imports for no site: \`sallyport audit site add\` makes one that does`,
  );
};

/** Goes through the whole export once, so that nothing of one that is not sound is stored. */
const verifyExport = async (o: ImportOptions, manifest: Manifest, trust: TrustFile): Promise<void> => {
  let events = 0;
  for await (const batch of new EvidenceReader(o.directory, manifest, trust).batches()) {
    events += batch.events.length;
    o.onProgress?.({ step: 'verified', events, totalEvents: manifest.events });
  }
};

const store = async (
  client: pg.Client,
  o: ImportOptions,
  manifest: Manifest,
  trust: TrustFile,
): Promise<ImportReport> => {
  const site = await siteOf(client);
  const { rows } = await client.query<OwnChain>('select * from audit.own_chains()');
  checkContinuity(manifest, rows);
  let done = 0;
  const stored = { batches: 0, events: 0 };
  // Verified again on the way: between the two readings somebody may have changed a file.
  for await (const piece of piecesOf(new EvidenceReader(o.directory, manifest, trust).batches())) {
    const now = await append(client, piece);
    stored.batches += now.batches;
    stored.events += now.events;
    done += piece.reduce((sum, batch) => sum + batch.events.length, 0);
    o.onProgress?.({ step: 'stored', events: done, totalEvents: manifest.events });
  }
  return {
    site,
    chains: manifest.chains.length,
    batches: manifest.batches,
    events: manifest.events,
    stored_batches: stored.batches,
    stored_events: stored.events,
    signer: manifest.exporter.signer,
  };
};

/**
 * Imports the export of another site, as the login that stands for it, after all of it has been verified. Repeated, or
 * after an interruption, it stores what is missing.
 * @throws AppError ERR_AUDIT_TRUST_INVALID, ERR_AUDIT_EXPORT_INVALID before anything is stored; ERR_AUDIT_IMPORT_SITE,
 * ERR_AUDIT_IMPORT_GAP, ERR_AUDIT_IMPORT_REFUSED, ERR_AUDIT_DATABASE
 */
export const importEvidence = async (o: ImportOptions): Promise<ImportReport> => {
  const trust = loadTrust(o.trustFile, o.root);
  const manifest = readManifest(join(o.directory, MANIFEST_FILE), trust);
  await verifyExport(o, manifest, trust);
  try {
    const client = newClient(o.databaseUrl, 'sallyport-audit-import');
    return await withClient(client, () => store(client, o, manifest, trust));
  } catch (cause) {
    if (isAppError(cause)) throw cause;
    const code = foreignCodeOf(cause);
    const hint =
      code === '42501' || code === '42883'
        ? '; the database needs `sallyport migrate`, the login `audit site add`'
        : '';
    throw auditError(
      'ERR_AUDIT_DATABASE',
      `the audit database takes no import: ${refusalText(cause)}${hint}`,
      {
        cause,
        retryable: hint === '',
      },
    );
  }
};
