import { FLUSH_BYTES } from './constants.ts';

/** Buffers kept while unused; more are left to the collector. */
const MAX_SPARE = 8;

const spare: Buffer[] = [];

/** A buffer of `FLUSH_BYTES` with unspecified content; shared by the sessions of the process. */
export const takeBuffer = (): Buffer => spare.pop() ?? Buffer.allocUnsafeSlow(FLUSH_BYTES);

/** Gives a buffer back that nobody reads any more. */
export const giveBuffer = (buffer: Buffer): void => {
  if (spare.length < MAX_SPARE) spare.push(buffer);
};
