// Programs of this folder print one line for each thing that they saw.
import { createHash } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';

export const AT_ONCE = 4;
const POLL_MS = 50;

export const say = (what, value) =>
  console.log(`${what} ${typeof value === 'string' ? value : JSON.stringify(value)}`);

export const digest = (texts) => {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(text);
  return hash.digest('hex');
};

export const waitUntil = async (isSo) => {
  while (!(await isSo())) await setTimeout(POLL_MS);
};

/** What a promise that must reject rejects with. */
export const refusalOf = (promise) =>
  promise.then(
    () => {
      throw new Error('was not refused');
    },
    (error) => error,
  );
