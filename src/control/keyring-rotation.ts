import { type Clock, silentLogger, writeFileAtomically } from '../runtime/index.ts';
import { appendEvent, notifyKeys } from './change-event.ts';
import type { ControlContext } from './context.ts';
import { Database } from './database.ts';
import {
  keyringText,
  type Keyring,
  newMasterKey,
  parseKeyring,
  parseKeyringData,
  readKeyringText,
} from './keyring.ts';

/** Keys re-wrapped in one transaction. */
const BATCH = 500;

export interface KeyringRotation {
  readonly keyringFile: string;
  readonly databaseUrl: string;
  readonly namespace: string;
  readonly clock: Clock;
  /** Who does it, for the evidence. */
  readonly actor: string;
  readonly onProgress?: (done: number, total: number) => void;
}

interface SealedRow {
  readonly key_id: string;
  readonly keyring_key: string;
  readonly sealed: Buffer;
}

const withContext = async <T>(
  rotation: KeyringRotation,
  keyring: Keyring,
  use: (context: ControlContext) => Promise<T>,
): Promise<T> => {
  const { namespace, clock } = rotation;
  const database = new Database(rotation.databaseUrl, silentLogger);
  try {
    return await use({ database, keyring, namespace, publicPort: undefined, clock, logger: silentLogger });
  } finally {
    await database.close();
  }
};

/**
 * Adds a master key to the file without using it, so that the file can be brought to every node first; the one that
 * waits already is kept. Answers its id. @throws AppError ERR_CONTROL_KEYRING
 */
export const prepareMasterKey = async (keyringFile: string): Promise<string> => {
  const data = parseKeyringData(await readKeyringText(keyringFile));
  const last = data.keys.at(-1);
  if (last !== undefined && last.id !== data.current) return last.id;
  const fresh = newMasterKey();
  writeFileAtomically(keyringFile, keyringText({ ...data, keys: [...data.keys, fresh] }));
  return fresh.id;
};

/** Makes the newest master key of the file the one that seals; one that waits, or a fresh one. */
const adoptMasterKey = async (keyringFile: string): Promise<void> => {
  const newest = await prepareMasterKey(keyringFile);
  const data = parseKeyringData(await readKeyringText(keyringFile));
  writeFileAtomically(keyringFile, keyringText({ ...data, current: newest }));
};

const countOthers = async (context: ControlContext): Promise<number> => {
  const [row] = await context.database.query<{ n: number }>(
    'select count(*)::int as n from control.key where keyring_key <> $1',
    [context.keyring.current],
  );
  return row?.n ?? 0;
};

/**
 * Seals every stored key again under a new master key, in batches, with an event at the end. A run that was broken off
 * is continued by the next one: only when all keys are under the current master key is another begun.
 * @returns the current master key and how many keys were sealed again
 * @throws AppError ERR_CONTROL_KEYRING, ERR_CONTROL_UNAVAILABLE
 */
export const rewrapKeys = async (
  rotation: KeyringRotation,
): Promise<{ readonly current: string; readonly rewrapped: number; readonly resumed: boolean }> => {
  const { keyringFile } = rotation;
  const before = parseKeyring(await readKeyringText(keyringFile));
  const left = await withContext(rotation, before, countOthers);
  if (left === 0) await adoptMasterKey(keyringFile);
  const keyring = parseKeyring(await readKeyringText(keyringFile));
  return withContext(rotation, keyring, async (context) => {
    const total = await countOthers(context);
    let rewrapped = 0;
    for (let count = BATCH; count === BATCH; ) {
      count = await rewrapBatch(context);
      rewrapped += count;
      rotation.onProgress?.(rewrapped, total);
    }
    await context.database.transaction(async (tx) => {
      await appendEvent(tx, rotation.clock, {
        type: 'admin.action',
        subject: { namespace: rotation.namespace, actor: rotation.actor },
        data: {
          action: 'keyring.rotated',
          detail: { from: before.current, to: keyring.current, keys: rewrapped },
        },
      });
      // Every node reads its keys again, and with them the file.
      await notifyKeys(tx, undefined);
    });
    return { current: keyring.current, rewrapped, resumed: left > 0 };
  });
};

const rewrapBatch = (context: ControlContext): Promise<number> =>
  context.database.transaction(async (tx) => {
    const { keyring } = context;
    const rows = await tx.query<SealedRow>(
      `select key_id, keyring_key, sealed from control.key where keyring_key <> $1
        order by key_id limit $2 for update`,
      [keyring.current, BATCH],
    );
    for (const row of rows) {
      const text = keyring.open({ keyringKey: row.keyring_key, sealed: row.sealed }, row.key_id);
      const sealed = keyring.seal(text, row.key_id);
      await tx.query('update control.key set keyring_key = $2, sealed = $3 where key_id = $1', [
        row.key_id,
        sealed.keyringKey,
        sealed.sealed,
      ]);
    }
    return rows.length;
  });

/**
 * Removes the master keys from the file that seal nothing any more, but never the current or a prepared one.
 * @returns their ids
 */
export const dropMasterKeys = async (rotation: KeyringRotation): Promise<readonly string[]> => {
  const { keyringFile } = rotation;
  const data = parseKeyringData(await readKeyringText(keyringFile));
  const used = await withContext(rotation, parseKeyring(keyringText(data)), async ({ database }) => {
    const rows = await database.query<{ keyring_key: string }>(
      'select distinct keyring_key from control.key',
    );
    return new Set(rows.map((row) => row.keyring_key));
  });
  const prepared = data.keys.at(-1)?.id;
  const isKept = (id: string): boolean => id === data.current || id === prepared || used.has(id);
  const dropped = data.keys.filter(({ id }) => !isKept(id)).map(({ id }) => id);
  if (dropped.length > 0) {
    writeFileAtomically(
      keyringFile,
      keyringText({ ...data, keys: data.keys.filter(({ id }) => isKept(id)) }),
    );
  }
  return dropped;
};
