import { parentPort, workerData } from 'node:worker_threads';
import { foreignCodeOf, messageOf } from '../../runtime/index.ts';
import { newClient } from '../store/client.ts';
import { PieceChecker } from './piece-checker.ts';
import type { FromPieceWorker, PieceWorkerData, ToPieceWorker } from './piece-messages.ts';
import { beginReading, VERIFY_APPLICATION } from './snapshot.ts';

const { databaseUrl, snapshot, setup } = workerData as PieceWorkerData;

const post = (message: FromPieceWorker): void => parentPort?.postMessage(message);
const client = newClient(databaseUrl, VERIFY_APPLICATION);
const checker = new PieceChecker(client, setup, (count) => post({ kind: 'events', count }));

const end = async (): Promise<void> => {
  await client.end().catch(() => undefined);
  parentPort?.close();
};

const fail = async (cause: unknown): Promise<void> => {
  const code = foreignCodeOf(cause);
  post({ kind: 'failed', message: code === undefined ? messageOf(cause) : `${messageOf(cause)} (${code})` });
  await end();
};

const take = async (message: ToPieceWorker): Promise<void> => {
  if (message.kind === 'end') await end();
  else post({ kind: 'checked', result: await checker.check(message.piece) });
};

const start = async (): Promise<void> => {
  await client.connect();
  await beginReading(client, snapshot);
  parentPort?.on('message', (message: ToPieceWorker) => void take(message).catch(fail));
  post({ kind: 'ready' });
};

void start().catch(fail);
