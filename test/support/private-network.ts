import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority, createServerCertificate, systemClock } from '../../src/runtime/index.ts';
import { PRIVATE_HOSTS, PRIVATE_PREFIX } from './own-machine.ts';
import { type Closer, temporaryDirectory } from './temporary.ts';

export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** The network that applications reach only through the tunnel, with an authority that its servers have certificates of. */
export interface PrivateNetwork {
  /** Readable by every user. */
  readonly folder: string;
  readonly caFile: string;
  /** For these hosts, of the authority of this network; EC P-256. */
  certificate(...hosts: readonly string[]): Promise<CertificateFiles>;
  /** An address of its own for `HOST`, the same each time, that DNS knows. */
  addressOf(host: string): string;
  /** All so far, for DNS. */
  readonly addresses: ReadonlyMap<string, string>;
}

export const createPrivateNetwork = async (t: Closer): Promise<PrivateNetwork> => {
  const folder = temporaryDirectory(t, 'drivers');
  const authority = await createAuthority('authority of the private network', systemClock);
  const file = (name: string, text: string, mode: number): string => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode });
    return path;
  };
  const caFile = file('ca.pem', authority.certPem, 0o644);
  const addresses = new Map<string, string>();
  return {
    folder,
    caFile,
    async certificate(...hosts) {
      const { certPem, keyPem } = await createServerCertificate(authority, hosts, systemClock);
      return {
        certFile: file(`${hosts[0]}.pem`, certPem, 0o644),
        keyFile: file(`${hosts[0]}.key`, keyPem, 0o600),
      };
    },
    addressOf(host) {
      const known = addresses.get(host);
      if (known !== undefined) return known;
      if (addresses.size === PRIVATE_HOSTS) throw new Error(`more than ${PRIVATE_HOSTS} hosts`);
      const address = `${PRIVATE_PREFIX}.${addresses.size + 1}`;
      addresses.set(host, address);
      return address;
    },
    addresses,
  };
};
