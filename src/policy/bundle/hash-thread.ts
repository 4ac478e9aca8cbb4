import { startWorker } from '../../runtime/index.ts';
import type { FileToHash, HashedFile } from './file-hash.ts';

export type HashAnswer = { readonly hashed: readonly HashedFile[] } | { readonly failure: string };

/**
 * Hashes the files of a bundle in a thread of its own: 10 MiB of data take the better part of a second, and the event
 * loop carries streams meanwhile.
 * @throws Error as `hashFile` does
 */
export const hashInThread = async (files: readonly FileToHash[]): Promise<readonly HashedFile[]> => {
  const worker = startWorker(new URL('./hash-worker.ts', import.meta.url), { workerData: files });
  const answer = await new Promise<HashAnswer>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`hashing ended with ${String(code)} and no answer`)));
  }).finally(() => void worker.terminate());
  if ('failure' in answer) throw new Error(answer.failure);
  return answer.hashed;
};
