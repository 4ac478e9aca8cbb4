import { gunzipSync } from 'node:zlib';
import { BUNDLE_FILE, parseManifest } from './bundle.ts';
import { ARCHIVE_LIMIT, readTar, writeArchive } from './archive.ts';

/** A connection that the generated policy knows. */
export interface DevelopmentConnection {
  readonly name: string;
  readonly host: string;
  /** 1–65535 */
  readonly port: number;
}

export interface DevelopmentOptions {
  /** Rises with each regeneration; a host refuses a lower one. Default: the default bundle's. */
  readonly sequence?: number;
  /** Connections that may be published while every stream to them is refused by rule `development-forbidden`. */
  readonly forbidden?: readonly string[];
}

/**
 * Repacks the default bundle with a data document that allows publishing exactly these connections, and streams
 * to them by the connection's own Send keys. Needs no OPA: data is not inside the wasm.
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE when the default bundle is damaged
 */
export const developmentBundle = (
  defaultBundle: Buffer,
  connections: readonly DevelopmentConnection[],
  options: DevelopmentOptions = {},
): Buffer => {
  const tar = gunzipSync(defaultBundle, { maxOutputLength: ARCHIVE_LIMIT.expandedBytes });
  const files = new Map(readTar(tar, false));
  const manifest = parseManifest(files.get(BUNDLE_FILE.manifest)?.toString('utf8') ?? '{}');
  const publish: Record<string, { host: string; port: number }[]> = {};
  for (const { name, host, port } of connections) (publish[name] ??= []).push({ host, port });
  const development = { publish, forbidden: options.forbidden ?? [] };
  const document = { sallyport: { grants: {}, development } };
  const sallyport = {
    ...manifest.metadata.sallyport,
    sequence: options.sequence ?? manifest.metadata.sallyport.sequence,
  };
  const revised = { ...manifest, revision: 'development', metadata: { ...manifest.metadata, sallyport } };
  files.set(BUNDLE_FILE.data, Buffer.from(JSON.stringify(document)));
  files.set(BUNDLE_FILE.manifest, Buffer.from(JSON.stringify(revised)));
  return writeArchive(files);
};
