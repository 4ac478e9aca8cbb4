import type { SignedCheckpoint } from '../checkpoint/checkpoint.ts';
import type { Findings } from './report.ts';

/** Digests of the checkpoints that have one number, and the digest before that each of them names. */
type SameNumber = Map<string, string | null>;

interface Known {
  readonly name: string;
  readonly numbers: Map<number, SameNumber>;
  highest: number;
}

const keyOf = ({ checkpoint: { signer, series } }: SignedCheckpoint): string => `${signer} ${series}`;

/** The numbers and links of checkpoints of files. Keeps about 200 bytes for each. */
export class CheckpointSeries {
  readonly #known = new Map<string, Known>();

  take(signed: SignedCheckpoint): void {
    const { number, prev, series } = signed.checkpoint;
    const known: Known = this.#known.get(keyOf(signed)) ?? { name: series, numbers: new Map(), highest: 0 };
    this.#known.set(keyOf(signed), known);
    const same: SameNumber = known.numbers.get(number) ?? new Map<string, string | null>();
    known.numbers.set(number, same);
    known.highest = Math.max(known.highest, number);
    same.set(signed.digest.toString('hex'), prev);
  }

  /** Whether there are checkpoints of its series, and all have lower numbers. */
  isBehind(signed: SignedCheckpoint): boolean {
    const known = this.#known.get(keyOf(signed));
    return known !== undefined && known.highest < signed.checkpoint.number;
  }

  check(findings: Findings): void {
    for (const known of this.#known.values()) this.#checkOne(known, findings);
  }

  #checkOne({ name, numbers }: Known, findings: Findings): void {
    let before: number | undefined;
    for (const [number, same] of [...numbers].sort(([a], [b]) => a - b)) {
      const previous = numbers.get(number - 1);
      if (before !== undefined && previous === undefined) {
        const missing = number - before === 2 ? `${before + 1} is` : `${before + 1} to ${number - 1} are`;
        findings.add('checkpoint_line_missing', `of series ${name}, ${missing} not in the files`);
      }
      const isLinked = [...same.values()].every((prev) => previous?.has(prev ?? '') !== false);
      if (same.size > 1) {
        findings.add('checkpoint_forked', `${same.size} checkpoints are number ${number} of series ${name}`);
      } else if (!isLinked) {
        findings.add('checkpoint_forked', `number ${number} of series ${name} follows another one`);
      }
      before = number;
    }
  }
}
