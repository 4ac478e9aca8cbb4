import type pg from 'pg';
import { readSeal, type Seal, sealDigest } from '../seal/seal.ts';
import { checkBatch } from './batch-check.ts';
import { Countersigned } from './countersigned.ts';
import { addRetained, addStray, emptySums, type Piece, type PieceResult, type Stray } from './piece.ts';
import type { Position } from './position.ts';
import { Findings } from './report.ts';
import { type Alibi, type Alibis, alibiFor } from './retention-check.ts';
import { EventReader, type EventRow, type SealRow, sealsOf } from './rows.ts';
import type { SignerCheck } from './signer-check.ts';

const SEAL_PAGE = 50;

export interface PieceCheckOptions {
  /** In the snapshot that is verified. */
  readonly client: pg.ClientBase;
  readonly signers: SignerCheck;
  /** Columns to compare with the events, as `eventColumns` names them; undefined when they are not compared. */
  readonly columns: readonly string[] | undefined;
  /** What may be missing. */
  readonly alibis: Alibis;
  /** Whether heads that heartbeats of the chain hold are this database's. */
  readonly witnesses: boolean;
  /** Called with the events that the columns of the seals claim which were checked since the last call. */
  readonly onEvents?: ((count: number) => void) | undefined;
}

const columnsDiffer = (row: SealRow, digest: Buffer, seal: Seal): boolean =>
  !digest.equals(row.seal) ||
  row.first_seq !== seal.first ||
  row.last_seq !== seal.last ||
  row.event_count !== seal.n ||
  row.dropped !== seal.dropped ||
  row.root.toString('hex') !== seal.root ||
  (row.prev_seal?.toString('hex') ?? null) !== seal.prev ||
  row.prev_chain !== seal.prev_chain ||
  row.signer !== seal.signer ||
  row.epoch !== seal.epoch ||
  row.final !== seal.final ||
  row.sealed_us !== Date.parse(seal.time) * 1000;

/** A row with the seal that it holds, if it is one. */
interface ReadSeal {
  readonly row: SealRow;
  readonly seal: Seal | undefined;
}

/** Walks one piece of a chain from its first batch to its last. */
class PieceCheck {
  readonly #options: PieceCheckOptions;
  readonly #piece: Piece;
  readonly #events: EventReader;
  readonly #findings = new Findings();
  readonly #countersigned = new Countersigned();
  readonly #sums = emptySums();
  #position: Position;
  #stray: Stray | null = null;
  /** Last event of the seals that were read. */
  #ahead = 0;

  constructor(piece: Piece, options: PieceCheckOptions) {
    this.#options = options;
    this.#piece = piece;
    this.#position = piece.entry;
    this.#events = new EventReader(options.client, piece.chain, piece.entry.covered, options.columns);
  }

  async run(): Promise<PieceResult> {
    const { chain, upTo } = this.#piece;
    const { client } = this.#options;
    for (;;) {
      const page = await sealsOf(client, { chain, after: this.#position.place, upTo }, SEAL_PAGE);
      const read = page.map((row): ReadSeal => ({ row, seal: readSeal(row.canonical.toString('utf8')) }));
      this.#ahead = Math.max(0, ...read.map(({ seal }) => seal?.last ?? 0));
      for (const one of read) await this.#check(one);
      this.#options.onEvents?.(page.reduce((sum, row) => sum + row.event_count, 0));
      if (page.length < SEAL_PAGE) break;
    }
    if (upTo === null && this.#position.place !== null) await this.#takeStrays(Number.POSITIVE_INFINITY);
    await this.#countersigned.compare(client);
    return {
      exit: this.#position,
      sums: this.#sums,
      stray: this.#stray,
      findings: this.#findings.part(),
      heads: this.#countersigned.seen,
    };
  }

  get #covered(): number {
    return this.#position.covered ?? 0;
  }

  async #check({ row, seal: read }: ReadSeal): Promise<void> {
    const at = { chain: row.chain_id, batch: row.batch_no };
    const digest = sealDigest(row.canonical.toString('utf8'));
    this.#sums.seals += 1;
    const { lastBatch } = this.#position;
    if (row.batch_no > lastBatch + 1) {
      const batch = lastBatch + 1;
      this.#findings.add('seal_missing', `batch ${batch} is not there`, { ...at, batch });
      this.#position = { ...this.#position, known: false };
      this.#sums.whole = false;
    }
    const seal = this.#inPlace(row, read);
    const sound = seal !== undefined && this.#checkSeal(row, seal, digest);
    this.#position = {
      place: row.place,
      lastBatch: Math.max(lastBatch, row.batch_no),
      covered: this.#position.covered,
      known: sound,
      last: sound ? { last: seal.last, final: seal.final } : null,
      digest: digest.toString('hex'),
    };
    this.#sums.whole &&= sound;
    if (sound) await this.#checkEvents(row, seal);
  }

  /** The seal of this place; undefined when the bytes are none, or that of another place. */
  #inPlace(row: SealRow, seal: Seal | undefined): Seal | undefined {
    const at = { chain: row.chain_id, batch: row.batch_no };
    if (seal === undefined) {
      this.#findings.add('seal_altered', 'the canonical bytes are no seal', at);
      return undefined;
    }
    if (seal.chain === row.chain_id && seal.batch === row.batch_no) return seal;
    const message = `the seal is that of batch ${seal.batch} of chain ${seal.chain}`;
    this.#findings.add('seal_altered', message, at);
    return undefined;
  }

  /** Whether the range of the seal is one, behind those before it. */
  #checkSeal(row: SealRow, seal: Seal, digest: Buffer): boolean {
    const at = { chain: row.chain_id, batch: row.batch_no };
    if (columnsDiffer(row, digest, seal)) {
      this.#findings.add('seal_altered', 'columns of the seal differ from what was signed', at);
    }
    this.#options.signers.check(seal, digest, row.signature, this.#findings);
    this.#checkOrder(seal);
    this.#sums.dropped += seal.dropped;
    this.#sums.sealedEvents += seal.n;
    if (seal.batch === 1) this.#sums.start = { prev: seal.prev, prevChain: seal.prev_chain };
    if (seal.n !== seal.last - seal.first + 1 || (seal.n === 0 && !seal.final)) {
      this.#findings.add('seal_altered', `${seal.n} events do not fill the range`, at);
      return false;
    }
    return seal.first > this.#covered;
  }

  #checkOrder(seal: Seal): void {
    const { last, digest, known } = this.#position;
    const at = { chain: seal.chain, batch: seal.batch };
    if (seal.first <= this.#covered || (known && seal.first !== this.#covered + 1)) {
      this.#findings.add('seal_order', `the batch begins at ${seal.first}, not ${this.#covered + 1}`, at);
    }
    if (!known) return;
    const continues =
      last === null
        ? (seal.prev === null) === (seal.prev_chain === null)
        : seal.prev === digest && seal.prev_chain === null && !last.final;
    if (!continues) this.#findings.add('seal_order', 'the seal does not continue the one before it', at);
  }

  async #checkEvents(row: SealRow, seal: Seal): Promise<void> {
    const { columns, alibis, witnesses, client } = this.#options;
    await this.#takeStrays(seal.first - 1);
    const events: EventRow[] = [];
    await this.#events.takeUpTo(seal.last, this.#ahead, (event) => {
      events.push(event);
      if (witnesses) this.#countersigned.take(event.canonical, { chain: row.chain_id, seq: event.seq });
    });
    if (this.#countersigned.isFull) await this.#countersigned.compare(client);
    this.#position = { ...this.#position, covered: seal.last };
    this.#sums.events += events.length;
    const { site } = this.#piece;
    const alibi = events.length === 0 && row.leaves === null ? alibiFor(alibis, seal) : undefined;
    if (alibi !== undefined) this.#countRetained(alibi, seal.n);
    else checkBatch({ row, seal, events, site }, columns !== undefined, this.#findings);
  }

  #countRetained({ request }: Alibi, events: number): void {
    addRetained(this.#sums.retained, request, { batches: 1, events });
  }

  async #takeStrays(upTo: number): Promise<void> {
    await this.#events.takeUpTo(upTo, this.#ahead, (event) => {
      this.#stray = addStray(this.#stray, { first: event.seq, count: 1 });
    });
  }
}

/** Checks one piece of a chain. */
export const checkPiece = (piece: Piece, options: PieceCheckOptions): Promise<PieceResult> =>
  new PieceCheck(piece, options).run();
