import { readArchive, writeArchive } from '../bundle/archive.ts';
import { BUNDLE_FILE, parseManifest, readBundle } from '../bundle/bundle.ts';

/**
 * The same bundle under another sequence, unsigned: to go back to old content, which no agent takes under its old one.
 * @param sequence positive integer
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE for what is no bundle
 */
export const renumberBundle = async (
  bundle: Buffer,
  sequence: number,
): Promise<{ readonly bytes: Buffer; readonly revision: string }> => {
  await readBundle(bundle);
  const files = new Map(await readArchive(bundle));
  const manifest = parseManifest(files.get(BUNDLE_FILE.manifest)?.toString('utf8') ?? '{}');
  const sallyport = { ...manifest.metadata.sallyport, sequence };
  const renumbered = { ...manifest, metadata: { ...manifest.metadata, sallyport } };
  files.set(BUNDLE_FILE.manifest, Buffer.from(JSON.stringify(renumbered)));
  files.delete(BUNDLE_FILE.signatures);
  return { bytes: writeArchive(files), revision: manifest.revision };
};
