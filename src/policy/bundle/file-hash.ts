import { createHash } from 'node:crypto';
import { canonicalJson } from './canonical-json.ts';

/** Digests that a signature may name, by OPA's names; weaker ones than these are not looked at. */
const HASHES: Readonly<Record<string, string>> = {
  'SHA-256': 'sha256',
  'SHA-384': 'sha384',
  'SHA-512': 'sha512',
};

/** The digest that signatures are made with, here and by OPA. */
export const SIGNING_HASH = 'SHA-256';

/** A file and the digest that a signature asks for. */
export interface FileToHash {
  readonly name: string;
  readonly content: Uint8Array;
  readonly algorithm: string;
}

export interface HashedFile {
  readonly name: string;
  /** Lower-case hex. */
  readonly hash: string;
  /** Of a structured file, the text that was hashed. */
  readonly text: string | undefined;
}

export const baseOf = (name: string): string => name.slice(name.lastIndexOf('/') + 1);

/** Whether OPA hashes a file by its meaning instead of its bytes. @throws Error for YAML data */
const isStructured = (name: string): boolean => {
  const base = baseOf(name);
  if (base === 'data.yaml' || base === 'data.yml') {
    throw new Error(`'${name}' is yaml; a signed bundle holds its data as data.json`);
  }
  return base === 'data.json' || base === '.manifest';
};

const textOf = ({ name, content }: FileToHash): string => {
  try {
    return canonicalJson(Buffer.from(content.buffer, content.byteOffset, content.byteLength));
  } catch (cause) {
    throw new Error(`'${name}' is not json: ${(cause as Error).message}`, { cause });
  }
};

/**
 * The digest of a bundle's file as OPA takes it: data and manifest in canonical form, anything else by its bytes.
 * Errors are plain ones: this runs in a worker thread that loads as little as possible.
 * @throws Error for a digest that is not taken, and for data that is not JSON
 */
export const hashFile = (file: FileToHash): HashedFile => {
  const { name, content, algorithm } = file;
  const digest = HASHES[algorithm];
  if (digest === undefined) throw new Error(`'${name}' is signed over ${algorithm}, which is not taken`);
  const text = isStructured(name) ? textOf(file) : undefined;
  const hash = createHash(digest)
    .update(text ?? content)
    .digest('hex');
  return { name, hash, text };
};
