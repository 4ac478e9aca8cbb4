import { parentPort, workerData } from 'node:worker_threads';
import { type FileToHash, hashFile } from './file-hash.ts';
import type { HashAnswer } from './hash-thread.ts';

const answer = (): HashAnswer => {
  try {
    return { hashed: (workerData as readonly FileToHash[]).map(hashFile) };
  } catch (thrown) {
    return { failure: (thrown as Error).message };
  }
};

parentPort?.postMessage(answer());
