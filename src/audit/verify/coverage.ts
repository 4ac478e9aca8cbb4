import type pg from 'pg';
import type { Countersigned } from './countersigned.ts';
import { type ChainTotals, emptySums } from './piece.ts';
import { START } from './position.ts';
import type { Findings, NotRead } from './report.ts';
import { type ResumeFile, totalsOf } from './resume-file.ts';
import type { ChainRow } from './rows.ts';
import type { SignerCheck } from './signer-check.ts';
import { totalsSince } from './since.ts';
import { StoredDigests } from './stored-seals.ts';

/** Where each chain is read from, and what is not read of them. */
export interface Beginning {
  readonly chains: readonly ChainTotals[];
  readonly notRead: NotRead | null;
}

const atStart = ({ chain_id: chain, row }: ChainRow): ChainTotals => ({
  chain,
  site: row?.site ?? null,
  position: START,
  sums: emptySums(),
  stray: null,
});

/**
 * Chains that go on where an earlier run stood. Whatever is not there any more as it was left is a finding, and the chain
 * is read from its first batch.
 */
export const beginResumed = async (
  client: pg.ClientBase,
  rows: readonly ChainRow[],
  resume: ResumeFile,
  countersigned: Countersigned,
  findings: Findings,
): Promise<Beginning> => {
  const stored = await StoredDigests.of(client, resume.chains);
  for (const one of resume.chains) {
    const { chain, batch } = one;
    const digest = stored.get(one);
    if (digest === one.digest) continue;
    const what = digest === undefined ? 'is not there' : 'has another seal';
    const message = `this batch ${what}: an earlier run verified it (${resume.file})`;
    findings.add('resume_differs', message, { chain, batch });
    resume.keepAsDiffering(chain);
  }
  for (const head of resume.heads) countersigned.await(head);
  await countersigned.compare(client);
  const left = new Map(resume.chains.map((one) => [one.chain, one]));
  const chains = rows.map((row) => {
    const one = left.get(row.chain_id);
    return one === undefined ? atStart(row) : totalsOf(one, row.row?.site ?? null);
  });
  const seals = chains.reduce((sum, { sums }) => sum + sums.seals, 0);
  const events = chains.reduce((sum, { sums }) => sum + sums.events, 0);
  const { writtenAt } = resume;
  const notRead: NotRead | null =
    writtenAt === undefined || seals === 0 ? null : { because: 'resume', at: writtenAt, seals, events };
  return { chains, notRead };
};

/** Chains that are read from where they were sealed since. */
export const beginSince = async (
  client: pg.ClientBase,
  rows: readonly ChainRow[],
  sinceMs: number,
  signersOf: (site: string | null) => SignerCheck | undefined,
): Promise<Beginning> => {
  const chains: ChainTotals[] = [];
  let [seals, events] = [0, 0];
  for (const { chain_id: chain, row } of rows) {
    const site = row?.site ?? null;
    const { totals, leftOut } = await totalsSince(chain, site, { client, sinceMs, signers: signersOf(site) });
    chains.push(totals);
    seals += leftOut.seals;
    events += leftOut.events;
  }
  return { chains, notRead: { because: 'since', at: new Date(sinceMs).toISOString(), seals, events } };
};

/** Every chain from its first batch. */
export const beginFull = (rows: readonly ChainRow[]): Beginning => ({
  chains: rows.map(atStart),
  notRead: null,
});
