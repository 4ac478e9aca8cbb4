import type { TtcWriter } from './ttc.ts';

const CALL_END = 4;

/** Why a call failed, as Oracle says it. */
export interface Refusal {
  readonly code: number;
  readonly text: string;
}

export interface CallEnd {
  /** Of the call that it ends: a driver takes an end with another number for somebody else's. */
  readonly call: number;
  readonly cursor?: number;
  /** Rows of the cursor that have been sent. */
  readonly rows?: number;
  readonly refusal?: Refusal;
}

/** Ends the answer to a call, as of field version 7 (12.1). */
export const writeCallEnd = (
  answer: TtcWriter,
  { call, cursor = 0, rows = 0, refusal }: CallEnd,
): TtcWriter => {
  const code = refusal?.code ?? 0;
  answer.bytes(CALL_END).number(1).number(0).number(rows).number(code);
  // Errors in an array; the cursor; where in the statement; kind, severity, flags, options, parameter, warning.
  answer.number(0).number(0).number(cursor).number(0).bytes(0, 0, 0, 0, 0, 0);
  // The row's identifier.
  answer.number(0).number(0).bytes(0).number(0).number(0);
  // The system's error, statement, call; padding, iterations, logical row; errors of a batch: numbers, places, texts.
  answer.number(0).bytes(0, call).number(0).number(0).number(0).number(0).number(0).number(0);
  answer.number(code).number(rows);
  return refusal === undefined
    ? answer
    : answer.text(`ORA-${String(code).padStart(5, '0')}: ${refusal.text}\n`);
};
