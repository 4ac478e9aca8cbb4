import { existsSync, readFileSync, statSync } from 'node:fs';
import { z } from 'zod';
import { type Clock, messageOf, PRIVATE_FILE_MODE, writeFileAtomically } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import type { TrustFile } from '../seal/trust.ts';
import type { Sighting } from './countersigned.ts';
import type { ChainTotals } from './piece.ts';

/** The file is written at most so often while a run goes on; what is lost with a crash is read again. */
const SAVE_INTERVAL_MS = 1_000;
const OTHERS_MAY = 0o077;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();
const chainId = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);

const chainSchema = z.strictObject({
  chain: chainId,
  /** Last batch that was verified, the digest of its seal, and the last event that it covers. */
  batch: z.int().positive(),
  digest: hash,
  seq: count,
  final: z.boolean(),
  seals: count,
  events: count,
  dropped: count,
  sealed_events: count,
  prev: hash.nullable(),
  prev_chain: z.uuid().nullable(),
  retained: z.array(z.strictObject({ request: z.string(), batches: count, events: count })),
});

const headSchema = z.strictObject({
  chain: chainId,
  batch: z.int().positive(),
  seal: hash,
  by: z.strictObject({ chain: z.string(), seq: z.int() }),
});

const settingsSchema = z.strictObject({
  columns: z.boolean(),
  keep_ms: z.number().nullable(),
  /** By site, `-` for this one: public key of the audit root, and of each signer what decides whether it is believed. */
  trust: z.record(
    z.string(),
    z.strictObject({ root: hash, signers: z.record(z.string(), z.string().max(200)) }),
  ),
});

const fileSchema = z.strictObject({
  v: z.literal(1),
  what: z.literal('sallyport audit verify --resume'),
  written_at: z.string(),
  settings: settingsSchema,
  chains: z.array(chainSchema),
  /** The last batch of each chain that a heartbeat named, where it was there as named. */
  heads: z.array(headSchema),
});

type ResumeSettings = Readonly<z.output<typeof settingsSchema>>;
export type VerifiedChain = Readonly<z.output<typeof chainSchema>>;
type Content = Readonly<z.output<typeof fileSchema>>;

export interface ResumeOptions {
  readonly columns: boolean;
  readonly keepMs: number | undefined;
  readonly trust: TrustFile | undefined;
  readonly siteTrust: ReadonlyMap<string, TrustFile>;
}

const settingsOf = ({ columns, keepMs, trust, siteTrust }: ResumeOptions): ResumeSettings => {
  const given: [string, TrustFile][] = [...siteTrust];
  if (trust !== undefined) given.push(['-', trust]);
  const sites = given.map(([site, { root, signers }]) => [
    site,
    {
      root,
      signers: Object.fromEntries(
        signers.map((one) => [one.signer, `${one.kind} ${one.public_key} ${one.revoked_at ?? '-'}`]),
      ),
    },
  ]);
  return { columns, keep_ms: keepMs ?? null, trust: Object.fromEntries(sites) as ResumeSettings['trust'] };
};

/** Why what was verified with other settings says nothing of these; undefined when it does. */
const differenceOf = (before: ResumeSettings, now: ResumeSettings): string | undefined => {
  if (before.columns !== now.columns) return before.columns ? 'with --columns' : 'without --columns';
  if (before.keep_ms !== now.keep_ms) return 'with another --keep';
  const sites = Object.keys(before.trust).sort();
  if (sites.join() !== Object.keys(now.trust).sort().join()) return 'with other trust files';
  for (const [site, { root, signers }] of Object.entries(before.trust)) {
    const current = now.trust[site];
    if (current?.root !== root) return 'with another audit root';
    // A signer that was added cannot have sealed what was believed before.
    const changed = Object.entries(signers).find(([signer, entry]) => current.signers[signer] !== entry);
    if (changed !== undefined) return `before signer ${changed[0]} was changed in the trust file`;
  }
  return undefined;
};

const readContent = (file: string): Content | undefined => {
  if (!existsSync(file)) return undefined;
  const invalid = (why: string, cause?: unknown): Error =>
    auditError('ERR_AUDIT_RESUME_INVALID', `resume file ${file} ${why}`, { cause });
  // Whoever writes it decides what is not looked at.
  if ((statSync(file).mode & OTHERS_MAY) !== 0)
    throw invalid(`may be used by others than its owner: chmod 600 ${file}, when nobody else wrote it`);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw invalid(`is not readable: ${messageOf(cause)}`, cause);
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) throw invalid('has no such form');
  return parsed.data;
};

const ofTotals = ({ chain, position, sums }: ChainTotals): VerifiedChain | undefined => {
  const { place, digest, covered, last, lastBatch } = position;
  if (place !== String(lastBatch) || digest === null || covered === null || last === null) return undefined;
  return {
    chain,
    batch: lastBatch,
    digest,
    seq: covered,
    final: last.final,
    seals: sums.seals,
    events: sums.events,
    dropped: sums.dropped,
    sealed_events: sums.sealedEvents,
    prev: sums.start?.prev ?? null,
    prev_chain: sums.start?.prevChain ?? null,
    retained: [...sums.retained].map(([request, more]) => ({ request, ...more })),
  };
};

/** The totals of a chain as they stood when it was remembered. */
export const totalsOf = (one: VerifiedChain, site: string | null): ChainTotals => ({
  chain: one.chain,
  site,
  position: {
    place: String(one.batch),
    lastBatch: one.batch,
    covered: one.seq,
    known: true,
    last: { last: one.seq, final: one.final },
    digest: one.digest,
  },
  sums: {
    seals: one.seals,
    events: one.events,
    dropped: one.dropped,
    sealedEvents: one.sealed_events,
    whole: true,
    start: { prev: one.prev, prevChain: one.prev_chain },
    retained: new Map(one.retained.map(({ request, ...more }) => [request, more])),
  },
  stray: null,
});

/** Remembers what was verified without a finding, for the run that comes after. */
export class ResumeFile {
  readonly file: string;
  readonly #settings: ResumeSettings;
  readonly #clock: Clock;
  readonly #chains: Map<string, VerifiedChain>;
  readonly #heads: Map<string, Sighting>;
  readonly #differing = new Set<string>();
  /** When the runs before this one wrote it last; undefined when nothing of them is taken up. */
  readonly writtenAt: string | undefined;
  /** Why nothing of them is taken up, though the file is there. */
  readonly difference: string | undefined;
  #savedAtMs: number;

  /** @throws AppError ERR_AUDIT_RESUME_INVALID when the file is there and is none, or others may use it. */
  constructor(file: string, options: ResumeOptions, clock: Clock) {
    const content = readContent(file);
    this.file = file;
    this.#clock = clock;
    this.#settings = settingsOf(options);
    this.difference = content === undefined ? undefined : differenceOf(content.settings, this.#settings);
    const taken = this.difference === undefined ? content : undefined;
    this.writtenAt = taken?.written_at;
    this.#chains = new Map(taken?.chains.map((one) => [one.chain, one]));
    this.#heads = new Map(taken?.heads.map((one) => [one.chain, one]));
    this.#savedAtMs = clock.monotonicMs();
  }

  /** What was verified, without chains of which something else is stored now. */
  get chains(): readonly VerifiedChain[] {
    return [...this.#chains.values()].filter(({ chain }) => !this.#differing.has(chain));
  }

  get heads(): readonly Sighting[] {
    return [...this.#heads.values()];
  }

  /** What is stored of a chain is not what was verified: this stays in the file, and is a finding of each later run. */
  keepAsDiffering(chain: string): void {
    this.#differing.add(chain);
  }

  /** Takes down how far a chain was verified, all of it without a finding. */
  remember(totals: ChainTotals, heads: readonly Sighting[]): void {
    const one = ofTotals(totals);
    if (one === undefined || this.#differing.has(one.chain)) return;
    this.#chains.set(one.chain, one);
    for (const head of heads) {
      if (head.batch > (this.#heads.get(head.chain)?.batch ?? 0)) this.#heads.set(head.chain, head);
    }
    if (this.#clock.monotonicMs() - this.#savedAtMs >= SAVE_INTERVAL_MS) this.save();
  }

  /** @throws AppError ERR_AUDIT_RESUME_INVALID when it cannot be written */
  save(): void {
    const content: Content = {
      v: 1,
      what: 'sallyport audit verify --resume',
      written_at: new Date(this.#clock.nowMs()).toISOString(),
      settings: this.#settings,
      chains: [...this.#chains.values()],
      heads: [...this.#heads.values()],
    };
    try {
      writeFileAtomically(this.file, `${JSON.stringify(content)}\n`, PRIVATE_FILE_MODE);
    } catch (cause) {
      const why = `resume file ${this.file} cannot be written: ${messageOf(cause)}`;
      throw auditError('ERR_AUDIT_RESUME_INVALID', why, { cause });
    }
    this.#savedAtMs = this.#clock.monotonicMs();
  }
}
