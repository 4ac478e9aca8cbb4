import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { AppError, messageOf, randomBytes, writeFileAtomically } from '../runtime/index.ts';
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
  /** Seals a secret; `context` (the key id) is authenticated with it, so that rows cannot be swapped. */
  seal(secret: string, context: string): SealedSecret;
  /** @throws AppError ERR_CONTROL_KEYRING when the master key is missing or a byte was changed. */
  open(secret: SealedSecret, context: string): string;
}

const refuse = (message: string, cause?: unknown): AppError<ControlErrorCode> =>
  new AppError('ERR_CONTROL_KEYRING', `keyring: ${message}`, cause === undefined ? {} : { cause });

/** The text of a new keyring file with one master key. A secret. */
export const newKeyringText = (): string => {
  const id = `m_${randomBytes(6).toString('hex')}`;
  const key = randomBytes(MASTER_KEY_BYTES).toString('base64');
  return `${JSON.stringify({ version: 1, current: id, keys: [{ id, key }] }, null, 2)}\n`;
};

/** Writes a new keyring file, mode 0600. */
export const createKeyringFile = (path: string): void => writeFileAtomically(path, newKeyringText());

/** Reads a keyring. @throws AppError ERR_CONTROL_KEYRING, never quoting a key. */
export const parseKeyring = (text: string): Keyring => {
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
  const master = new Map<string, Buffer>();
  for (const entry of parsed.data.keys) {
    const bytes = Buffer.from(entry.key, 'base64');
    if (bytes.length !== MASTER_KEY_BYTES)
      throw refuse(`key ${entry.id} has ${bytes.length} bytes, not ${MASTER_KEY_BYTES}`);
    master.set(entry.id, Buffer.from(hkdfSync('sha256', bytes, '', 'sallyport control key at rest v1', 32)));
  }
  const current = parsed.data.current;
  const currentKey = master.get(current);
  if (currentKey === undefined) throw refuse(`current key ${JSON.stringify(current)} is not in it`);
  return {
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

/** Reads a keyring file. @throws AppError ERR_CONTROL_KEYRING */
export const readKeyringFile = async (path: string): Promise<Keyring> => {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw refuse(`cannot read ${path}: ${messageOf(error)}`, error);
  }
  return parseKeyring(text);
};
