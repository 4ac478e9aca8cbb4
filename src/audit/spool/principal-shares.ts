/** Principals counted apart; those that come after share one account. */
const MAX_PRINCIPALS = 4_096;
/** The account of principals beyond that. */
const OTHERS = '*';
/** Most principals that are named to an operator. */
const MAX_NAMED = 10;

export interface PrincipalBytes {
  readonly principal: string;
  readonly bytes: number;
}

/** The name under which a principal's events are counted: one of the namespace, or of a connection. */
export const accountOf = (principal: string, connection: string | undefined): string =>
  principal.includes('/') || connection === undefined ? principal : `${connection}/${principal}`;

const SUBJECT = '"subject":';
const TYPE = ',"type":';

/** The account of a canonical event, if a principal caused it. */
export const accountOfEvent = (text: string): string | undefined => {
  const from = text.lastIndexOf(SUBJECT);
  const to = text.lastIndexOf(TYPE);
  if (from === -1 || to === -1) return undefined;
  const subject = JSON.parse(text.slice(from + SUBJECT.length, to)) as Record<string, unknown>;
  const { principal, connection } = subject;
  if (typeof principal !== 'string') return undefined;
  return accountOf(principal, typeof connection === 'string' ? connection : undefined);
};

/** How many bytes of events each principal has in the spool's segments. */
export class PrincipalShares {
  readonly #bySegment = new Map<number, Map<string, number>>();
  readonly #totals = new Map<string, number>();

  add(segment: number, principal: string, bytes: number): void {
    const account = this.#totals.has(principal) || this.#totals.size < MAX_PRINCIPALS ? principal : OTHERS;
    const segmentBytes = this.#bySegment.get(segment) ?? new Map<string, number>();
    this.#bySegment.set(segment, segmentBytes);
    segmentBytes.set(account, (segmentBytes.get(account) ?? 0) + bytes);
    this.#totals.set(account, (this.#totals.get(account) ?? 0) + bytes);
  }

  /** A segment has left the spool. */
  remove(segment: number): void {
    for (const [account, bytes] of this.#bySegment.get(segment) ?? []) {
      const left = (this.#totals.get(account) ?? 0) - bytes;
      if (left > 0) this.#totals.set(account, left);
      else this.#totals.delete(account);
    }
    this.#bySegment.delete(segment);
  }

  bytesOf(principal: string): number {
    return this.#totals.get(principal) ?? this.#totals.get(OTHERS) ?? 0;
  }

  /** An equal part of the quota for each principal in the spool and one that is still to come. */
  shareBytes(quotaBytes: number): number {
    return quotaBytes / (this.#totals.size + 1);
  }

  /** Those with more than an equal part, the largest first, at most ten. */
  over(quotaBytes: number): PrincipalBytes[] {
    const share = this.shareBytes(quotaBytes);
    return [...this.#totals]
      .filter(([, bytes]) => bytes > share)
      .sort(([, a], [, b]) => b - a)
      .slice(0, MAX_NAMED)
      .map(([principal, bytes]) => ({ principal, bytes }));
  }
}
