import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';

export interface TlsFiles {
  readonly ca_file?: string | undefined;
  readonly client_cert_file?: string | undefined;
  readonly client_key_file?: string | undefined;
  readonly server_name?: string | undefined;
}

/** What vouches for the other end and for this one, as the files are now. @throws what the disk throws. */
export const tlsOptionsOf = (files: TlsFiles): ConnectionOptions => {
  const read = (path: string | undefined): Buffer | undefined =>
    path === undefined ? undefined : readFileSync(path);
  const [ca, cert, key] = [read(files.ca_file), read(files.client_cert_file), read(files.client_key_file)];
  return {
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(files.server_name === undefined ? {} : { servername: files.server_name }),
  };
};
