import pg from 'pg';
import { foreignCodeOf, messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { loadTrust } from '../seal/trust.ts';
import { type ChainTotals, checkChain } from './chain-check.ts';
import { type ChangeTotals, checkChanges, type ControlChanges } from './change-check.ts';
import { checkHeads, readOutsideHead } from './heads.ts';
import { Findings, type VerifyReport } from './report.ts';
import { allChains, type ChainRow, strayEvents } from './rows.ts';
import { SignerCheck } from './signer-check.ts';

export interface VerifyOptions {
  /** Of a login that may read the tables (`audit_verify`, or the owner). */
  readonly databaseUrl: string;
  /** Trust file; without it signatures are not checked and the result is never ok. */
  readonly trustFile?: string | undefined;
  /** Raw public key of the audit root, hex: the trust file must be signed by it. */
  readonly root?: string | undefined;
  /** Head files of writers: anchors against truncation. */
  readonly headFiles?: readonly string[] | undefined;
  /** Also compare every column with the canonical bytes. */
  readonly columns?: boolean | undefined;
  /** Also find an event for each change of this control database, read before the call. */
  readonly changes?: ControlChanges | undefined;
  readonly onProgress?: ((done: { chain: string; events: number }) => void) | undefined;
}

const checkLinks = (
  chains: readonly ChainRow[],
  totals: ReadonlyMap<string, ChainTotals>,
  findings: Findings,
): void => {
  const continued = new Map<string, string>();
  for (const { chain_id: chain } of chains) {
    const mine = totals.get(chain);
    if (mine === undefined || mine.prevChain === null) continue;
    const before = totals.get(mine.prevChain);
    const rival = continued.get(mine.prevChain);
    if (rival !== undefined) {
      findings.add('chain_forked', `chains ${rival} and ${chain} both continue ${mine.prevChain}`, { chain });
    }
    continued.set(mine.prevChain, chain);
    if (before === undefined || before.seals === 0) {
      findings.add('chain_missing', `chain ${chain} continues this one, which is not there`, {
        chain: mine.prevChain,
      });
    } else if (before.lastSeal?.toString('hex') !== mine.firstPrev) {
      const known = [...before.digests].find(([, digest]) => digest === mine.firstPrev);
      const message =
        known === undefined
          ? `chain ${chain} continues this one after a seal that is not there: its tail was cut`
          : `chain ${chain} continues this one after batch ${known[0]}, but there are later ones`;
      findings.add(known === undefined ? 'chain_truncated' : 'chain_forked', message, {
        chain: mine.prevChain,
        batch: before.lastBatch,
      });
    }
  }
};

const checkRow = (row: ChainRow, mine: ChainTotals, findings: Findings): void => {
  const at = { chain: row.chain_id, batch: row.last_batch };
  if (row.last_batch > mine.lastBatch) {
    findings.add(
      'chain_truncated',
      `batch ${row.last_batch} was stored, but the last one is ${mine.lastBatch}`,
      at,
    );
  } else if (
    row.last_batch !== mine.lastBatch ||
    row.last_seq !== mine.lastSeq ||
    row.head?.equals(mine.lastSeal ?? Buffer.alloc(0)) === false
  ) {
    findings.add(
      'chain_row_altered',
      `audit.chain says batch ${row.last_batch}, the seals say ${mine.lastBatch}`,
      at,
    );
  }
};

const changeNotes = (totals: ChangeTotals | undefined): string[] => {
  if (totals === undefined) return ['changes of the control database not compared (--control)'];
  const { waiting, repeated, beyondRetention } = totals;
  return [
    ...(waiting === 0 ? [] : [`${waiting} changes of the last minute have no event yet`]),
    ...(repeated === 0 ? [] : [`${repeated} changes were handed over twice: same id, same content`]),
    ...(beyondRetention === 0 ? [] : [`${beyondRetention} things are older than what retention left`]),
  ];
};

const notesOf = (o: VerifyOptions, anchored: boolean): string[] => {
  const notes: string[] = [];
  if (o.trustFile === undefined) notes.push('signatures not checked: no trust file was given');
  if (!anchored) notes.push('truncation not checked: no heads from outside the database were given');
  if (o.columns !== true) notes.push('columns not compared with the events (--columns)');
  return notes;
};

/**
 * Verifies a store of evidence: every chain, its seals, signatures, contiguity, leaves and events.
 * @throws AppError ERR_AUDIT_DATABASE, ERR_AUDIT_TRUST_INVALID
 */
export const verifyAudit = async (options: VerifyOptions): Promise<VerifyReport> => {
  const trust = options.trustFile === undefined ? undefined : loadTrust(options.trustFile, options.root);
  const heads = (options.headFiles ?? []).map(readOutsideHead).filter((head) => head !== undefined);
  const findings = new Findings();
  const signers = new SignerCheck(trust);
  const totals = new Map<string, ChainTotals>();
  const client = new pg.Client({
    connectionString: options.databaseUrl,
    application_name: 'sallyport-audit-verify',
  });
  client.on('error', () => {
    // The failing query rejects by itself.
  });
  let chains: ChainRow[];
  let changes: ChangeTotals | undefined;
  try {
    await client.connect();
    // One snapshot for all: a store that is being written to is verified as of now.
    await client.query("set timezone to 'UTC'");
    await client.query('begin transaction isolation level repeatable read read only');
    chains = await allChains(client);
    for (const chain of chains) {
      const mine = await checkChain({
        client,
        chain,
        signers,
        columns: options.columns === true,
        findings,
        onProgress: (events) => options.onProgress?.({ chain: chain.chain_id, events }),
      });
      totals.set(chain.chain_id, mine);
      checkRow(chain, mine, findings);
    }
    for (const stray of await strayEvents(client)) {
      findings.add('event_unsealed', `${stray.count} events that no seal covers`, {
        chain: stray.chain_id,
        seq: stray.seq,
      });
    }
    if (options.changes !== undefined) changes = await checkChanges(client, options.changes, findings);
    await client.query('commit');
  } catch (cause) {
    const code = foreignCodeOf(cause);
    const detail = code === undefined ? messageOf(cause) : `${messageOf(cause)} (${code})`;
    throw auditError('ERR_AUDIT_DATABASE', `the audit database cannot be verified: ${detail}`, {
      cause,
      retryable: true,
    });
  } finally {
    await client.end().catch(() => undefined);
  }
  checkLinks(chains, totals, findings);
  checkHeads(heads, totals, findings);
  if (trust === undefined && heads.length === 0) {
    findings.add(
      'no_anchor',
      'nothing from outside the database was given: whoever can write it can make it verify',
    );
  }
  const sum = (of: (mine: ChainTotals) => number): number =>
    [...totals.values()].reduce((all, mine) => all + of(mine), 0);
  return {
    ok: findings.list.length === 0,
    chains: chains.length,
    seals: sum((mine) => mine.seals),
    events: sum((mine) => mine.events),
    findings: findings.list,
    more_findings: findings.more,
    truncation: heads.length > 0 ? 'checked' : 'not checked',
    breaks: sum((mine) => (mine.prevChain === null ? 1 : 0)),
    dropped: sum((mine) => mine.dropped),
    changes: changes?.changes ?? null,
    notes: [...notesOf(options, heads.length > 0), ...changeNotes(changes)],
  };
};
