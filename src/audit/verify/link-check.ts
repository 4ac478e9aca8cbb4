import type pg from 'pg';
import type { ChainTotals } from './piece.ts';
import type { Findings } from './report.ts';
import type { ChainRow } from './rows.ts';
import { batchWithDigest } from './stored-seals.ts';

/** Each continued chain is there, ends with the seal that was named, and is continued once. Returns the continued ones. */
export const checkLinks = async (
  client: pg.ClientBase,
  totals: ReadonlyMap<string, ChainTotals>,
  findings: Findings,
): Promise<ReadonlySet<string>> => {
  const continued = new Map<string, string>();
  for (const [chain, { sums }] of totals) {
    const { prevChain = null, prev = null } = sums.start ?? {};
    if (prevChain === null) continue;
    const before = totals.get(prevChain)?.position;
    const rival = continued.get(prevChain);
    if (rival !== undefined) {
      findings.add('chain_forked', `chains ${rival} and ${chain} both continue ${prevChain}`, { chain });
    }
    continued.set(prevChain, chain);
    if (before === undefined || before.digest === null) {
      findings.add('chain_missing', `chain ${chain} continues this one, which is not there`, {
        chain: prevChain,
      });
    } else if (before.digest !== prev) {
      const known = prev === null ? undefined : await batchWithDigest(client, prevChain, prev);
      const message =
        known === undefined
          ? `chain ${chain} continues this one after a seal that is not there: its tail was cut, or two processes went on in it`
          : `chain ${chain} continues this one after batch ${known}, but there are later ones`;
      findings.add(known === undefined ? 'chain_truncated' : 'chain_forked', message, {
        chain: prevChain,
        batch: before.lastBatch,
      });
    }
  }
  return new Set(continued.keys());
};

/** Names of columns of audit.chain that are not what the seals say. */
const alteredState = (row: NonNullable<ChainRow['row']>, mine: ChainTotals): string[] => {
  const { last, lastBatch, digest } = mine.position;
  const compared: [string, boolean][] = [['last_batch', row.last_batch === lastBatch]];
  if (last !== null) {
    compared.push(
      ['last_seq', row.last_seq === last.last],
      ['head', row.head?.toString('hex') === digest],
      ['final', row.final === last.final],
    );
  }
  const { whole, sealedEvents, dropped } = mine.sums;
  if (whole) {
    compared.push(['events', row.events === sealedEvents], ['dropped', row.dropped === dropped]);
  }
  return compared.filter(([, same]) => !same).map(([name]) => name);
};

/** What audit.chain says of a chain is what its seals say; a row that says more tells of a cut tail. */
export const checkRow = ({ chain_id: chain, row }: ChainRow, mine: ChainTotals, findings: Findings): void => {
  if (row === undefined) {
    findings.add('chain_row_altered', 'audit.chain does not know the chain', { chain });
    return;
  }
  const at = { chain, batch: row.last_batch };
  const { lastBatch } = mine.position;
  if (row.last_batch > lastBatch) {
    const message = `batch ${row.last_batch} was stored, but the last one is ${lastBatch}`;
    findings.add('chain_truncated', message, at);
    return;
  }
  const names = alteredState(row, mine);
  if (names.length > 0) {
    findings.add('chain_row_altered', `audit.chain differs from the seals: ${names.join(', ')}`, at);
  }
};
