/** Period of the byte pattern: a prime, so that a lost, doubled or swapped piece of any usual size shows. */
const PERIOD_BYTES = 1_048_573;

const once = Buffer.allocUnsafe(PERIOD_BYTES);
let state = 0x9e3779b9;
for (let i = 0; i < PERIOD_BYTES; i++) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  once[i] = state & 0xff;
}
const twice = Buffer.concat([once, once]);

/** The pattern's bytes from a position on; at most one period long. The buffer is shared: never write to it. */
export const patternAt = (position: number, length: number): Buffer => {
  const start = position % PERIOD_BYTES;
  return twice.subarray(start, start + length);
};

/** True when the bytes are the pattern's at that position. */
export const isPattern = (bytes: Uint8Array, position: number): boolean => {
  for (let done = 0; done < bytes.length; done += PERIOD_BYTES) {
    const piece = bytes.subarray(done, done + PERIOD_BYTES);
    if (patternAt(position + done, piece.length).compare(piece) !== 0) return false;
  }
  return true;
};
