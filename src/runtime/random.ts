import { randomBytes as cryptoRandomBytes } from 'node:crypto';
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';

/** Cryptographically strong random bytes. */
export const randomBytes = (countBytes: number): Buffer => cryptoRandomBytes(countBytes);

/** A random number in [0, 1), for jitter only. */
export const randomFraction = (): number => Math.random();

const POOL_BYTES = 8 * 1024;
const RANDOM_PART_BYTES = 10;
let pool = Buffer.alloc(0);
let poolAt = 0;

const HEX: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
const hexAt = (bytes: Buffer, at: number): string => HEX[bytes[at] ?? 0] ?? '00';

/** A UUID version 7 (RFC 9562 §5.7): 48 bits of wall-clock milliseconds, then 74 random bits. */
export const uuidv7 = (clock: Clock = systemClock): string => {
  if (poolAt + RANDOM_PART_BYTES > pool.length) {
    pool = cryptoRandomBytes(POOL_BYTES);
    poolAt = 0;
  }
  const at = poolAt;
  poolAt += RANDOM_PART_BYTES;
  pool[at] = ((pool[at] ?? 0) & 0x0f) | 0x70;
  pool[at + 2] = ((pool[at + 2] ?? 0) & 0x3f) | 0x80;
  const time = Math.floor(clock.nowMs()).toString(16).padStart(12, '0');
  const part = (from: number, to: number): string => {
    let text = '';
    for (let index = at + from; index < at + to; index += 1) text += hexAt(pool, index);
    return text;
  };
  return `${time.slice(0, 8)}-${time.slice(8)}-${part(0, 2)}-${part(2, 4)}-${part(4, 10)}`;
};
