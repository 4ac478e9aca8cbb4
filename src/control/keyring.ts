import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import {
  AppError,
  type Clock,
  messageOf,
  randomBytes,
  systemClock,
  writeFileAtomically,
} from '../runtime/index.ts';
import type { ControlErrorCode } from './errors.ts';

const MASTER_KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const fileSchema = z.strictObject({
  version: z.literal(1),
  /** Id of the entry that new ciphertexts use. */
  current: z.string().min(1).max(64),
  keys: z
    .array(z.strictObject({ id: z.string().min(1).max(64), key: z.string().length(44) }))
    .min(1)
    .max(100),
});

/** A sealed secret: `nonce ‖ ciphertext ‖ tag`, and which master key sealed it. */
export interface SealedSecret {
  readonly keyringKey: string;
  readonly sealed: Buffer;
}

/** The master keys that encrypt SAS keys at rest (AES-256-GCM). */
export interface Keyring {
  /** Id of the master key that seals. */
  readonly current: string;
  has(masterKeyId: string): boolean;
  /** Seals a secret; `context` (the key id) is authenticated with it, so that rows cannot be swapped. */
  seal(secret: string, context: string): SealedSecret;
  /** @throws AppError ERR_CONTROL_KEYRING when the master key is missing or a byte was changed. */
  open(secret: SealedSecret, context: string): string;
}

const refuse = (message: string, cause?: unknown): AppError<ControlErrorCode> =>
  new AppError('ERR_CONTROL_KEYRING', `keyring: ${message}`, cause === undefined ? {} : { cause });

/** What a keyring file holds. A secret. */
export type KeyringData = z.output<typeof fileSchema>;

/** A fresh master key, as an entry of the file. */
export const newMasterKey = (): KeyringData['keys'][number] => ({
  id: `m_${randomBytes(6).toString('hex')}`,
  key: randomBytes(MASTER_KEY_BYTES).toString('base64'),
});

export const keyringText = (data: KeyringData): string => `${JSON.stringify(data, null, 2)}\n`;

/** The text of a new keyring file with one master key. A secret. */
export const newKeyringText = (): string => {
  const first = newMasterKey();
  return keyringText({ version: 1, current: first.id, keys: [first] });
};

/** Writes a new keyring file, mode 0600. */
export const createKeyringFile = (path: string): void => writeFileAtomically(path, newKeyringText());

/** What a keyring file's text holds. @throws AppError ERR_CONTROL_KEYRING, never quoting a key. */
export const parseKeyringData = (text: string): KeyringData => {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's message quotes the text around the error: master keys. It stays out.
    throw refuse('not valid JSON');
  }
  const parsed = fileSchema.safeParse(json);
  if (!parsed.success) {
    const paths = parsed.error.issues.map((issue) => issue.path.join('.') || '(top)').join(', ');
    throw refuse(`not of the expected form at ${paths}`);
  }
  return parsed.data;
};

/** Reads a keyring. @throws AppError ERR_CONTROL_KEYRING, never quoting a key. */
export const parseKeyring = (text: string): Keyring => {
  const data = parseKeyringData(text);
  const master = new Map<string, Buffer>();
  for (const entry of data.keys) {
    const bytes = Buffer.from(entry.key, 'base64');
    if (bytes.length !== MASTER_KEY_BYTES)
      throw refuse(`key ${entry.id} has ${bytes.length} bytes, not ${MASTER_KEY_BYTES}`);
    master.set(entry.id, Buffer.from(hkdfSync('sha256', bytes, '', 'sallyport control key at rest v1', 32)));
  }
  const { current } = data;
  const currentKey = master.get(current);
  if (currentKey === undefined) throw refuse(`current key ${JSON.stringify(current)} is not in it`);
  return {
    current,
    has: (id) => master.has(id),
    seal(secret, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', currentKey, nonce).setAAD(Buffer.from(context, 'utf8'));
      const sealed = Buffer.concat([
        nonce,
        cipher.update(secret, 'utf8'),
        cipher.final(),
        cipher.getAuthTag(),
      ]);
      return { keyringKey: current, sealed };
    },
    open(secret, context) {
      const key = master.get(secret.keyringKey);
      if (key === undefined) throw refuse(`no key ${JSON.stringify(secret.keyringKey)} in it`);
      const { sealed } = secret;
      if (sealed.length < NONCE_BYTES + TAG_BYTES) throw refuse('a stored key is cut short');
      const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES))
        .setAAD(Buffer.from(context, 'utf8'))
        .setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
      try {
        const body = sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES);
        return Buffer.concat([decipher.update(body), decipher.final()]).toString('utf8');
      } catch (error) {
        throw refuse(`the stored form of ${context} does not decrypt`, error);
      }
    },
  };
};

/** An unknown master key reads the file again, at most this often. */
const REREAD_AFTER_MS = 1_000;

/** The keyring of a file, read again when a stored key names a master key that it did not have: it was rotated. */
class FileKeyring implements Keyring {
  readonly #path: string;
  readonly #clock: Clock;
  #keyring: Keyring;
  #readMs: number;

  constructor(path: string, keyring: Keyring, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
    this.#keyring = keyring;
    this.#readMs = clock.monotonicMs();
  }

  get current(): string {
    return this.#keyring.current;
  }

  has(masterKeyId: string): boolean {
    return this.#keyring.has(masterKeyId);
  }

  seal(secret: string, context: string): SealedSecret {
    return this.#keyring.seal(secret, context);
  }

  open(secret: SealedSecret, context: string): string {
    if (!this.has(secret.keyringKey)) this.#reread();
    return this.#keyring.open(secret, context);
  }

  #reread(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#readMs < REREAD_AFTER_MS) return;
    this.#readMs = nowMs;
    this.#keyring = parseKeyring(readFileSync(this.#path, 'utf8'));
  }
}

/** Reads a keyring file, and again when it was rotated. @throws AppError ERR_CONTROL_KEYRING */
export const readKeyringFile = async (path: string, clock: Clock = systemClock): Promise<Keyring> =>
  new FileKeyring(path, parseKeyring(await readKeyringText(path)), clock);

/** @throws AppError ERR_CONTROL_KEYRING */
export const readKeyringText = async (path: string): Promise<string> => {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw refuse(`cannot read ${path}: ${messageOf(error)}`, error);
  }
};
