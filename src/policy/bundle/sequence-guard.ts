import { AppError } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';
import type { Bundle } from './bundle.ts';

type Numbered = Pick<Bundle, 'sequence' | 'contentSha256'>;

const refused = (what: string): AppError<PolicyErrorCode> => new AppError('ERR_POLICY_SEQUENCE', what);

/** Lets nobody go back to an older bundle, or put another one under the number of the one that was active. */
export class SequenceGuard {
  #last: Numbered | undefined;

  /** @throws AppError ERR_POLICY_SEQUENCE */
  check({ sequence, contentSha256 }: Numbered): void {
    if (this.#last === undefined || sequence > this.#last.sequence) return;
    if (sequence < this.#last.sequence) {
      throw refused(
        `bundle sequence ${String(sequence)} is lower than ${String(this.#last.sequence)}, which was active; ` +
          "build it with 'sallyport policy build --after BUNDLE', to go back use 'sallyport policy rollback'",
      );
    }
    if (contentSha256 === this.#last.contentSha256) return;
    throw refused(
      `bundle sequence ${String(sequence)} was active with other content; every change needs a higher sequence ` +
        "('sallyport policy build --after BUNDLE')",
    );
  }

  adopt({ sequence, contentSha256 }: Numbered): void {
    this.#last = { sequence, contentSha256 };
  }
}
