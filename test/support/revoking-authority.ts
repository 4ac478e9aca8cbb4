import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from './command.ts';
import type { Closer } from './temporary.ts';
import { temporaryDirectory } from './temporary.ts';

/** What a list may have beside its entries. */
export interface CrlOptions {
  /** Lines of an OpenSSL section, with sections that they name. */
  readonly extensions?: string;
  readonly digest?: string;
  /** Signed by the same key under this name. */
  readonly as?: string;
}

/** A certificate authority of OpenSSL with an intermediate one, which issues for localhost and revokes. */
export interface RevokingAuthority {
  readonly directory: string;
  /** PEM of the root, for `ca_file`. */
  readonly caFile: string;
  /** PEM of the server with its intermediate. */
  readonly certFile: string;
  readonly keyFile: string;
  /** Serial number of the server's certificate, upper-case hex. */
  readonly serial: string;
  /** Puts the server's certificate on the list of the intermediate authority, or that one on the root's. */
  revoke(who: 'server' | 'intermediate'): void;
  /** Signs a list now, DER. `early`: dated years ago; `stale`: it held a day then. */
  crl(by: 'root' | 'intermediate', kind?: 'early' | 'stale', more?: CrlOptions): Buffer;
}

const CONFIG = `
[ca]
default_ca = own
[own]
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir
default_md = sha256
default_crl_days = 2
default_days = 2
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
`;

const program = findProgram('openssl') ?? 'openssl';

/** @param crlUrls where the lists of both authorities will be; without, certificates name none */
export const revokingAuthority = (
  t: Closer,
  crlUrls?: { readonly root: string; readonly intermediate: string },
): RevokingAuthority => {
  const directory = temporaryDirectory(t, 'authority');
  const at = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => {
    execFileSync(program, args, { cwd: directory, stdio: 'pipe' });
  };
  const newKey = (name: string): string[] => [
    ...['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-keyout', at(`${name}.key`), '-subj', `/CN=${name}`, '-config', at('root.cnf')],
  ];
  for (const name of ['root', 'intermediate'] as const) {
    const files = at(`${name}.d`);
    mkdirSync(files);
    writeFileSync(at(`${name}.cnf`), CONFIG.replaceAll('$dir', files));
    writeFileSync(join(files, 'index.txt'), '');
    writeFileSync(join(files, 'serial'), '4000000000000000000000000000000000000001\n');
    writeFileSync(join(files, 'crlnumber'), '01\n');
  }
  const points = (url: string | undefined): string =>
    url === undefined ? '' : `crlDistributionPoints = URI:ldap://nobody/cn=x,URI:${url}\n`;
  const authority = 'basicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign,cRLSign\n';
  writeFileSync(at('intermediate.ext'), `${authority}${points(crlUrls?.root)}`);
  writeFileSync(
    at('server.ext'),
    `subjectAltName = DNS:localhost,IP:127.0.0.1\nextendedKeyUsage = serverAuth\n${points(crlUrls?.intermediate)}`,
  );
  writeFileSync(at('root.cnf'), `${readFileSync(at('root.cnf'), 'utf8')}\n[self]\n${authority}`);
  openssl('req', '-x509', ...newKey('root'), '-days', '2', '-extensions', 'self', '-out', at('root.pem'));
  const issue = (by: string, name: string): void => {
    openssl('req', '-new', ...newKey(name), '-out', at(`${name}.csr`));
    openssl(
      ...['ca', '-batch', '-notext', '-config', at(`${by}.cnf`), '-cert', at(`${by}.pem`)],
      ...['-keyfile', at(`${by}.key`), '-in', at(`${name}.csr`), '-extfile', at(`${name}.ext`)],
      ...['-out', at(`${name}.pem`)],
    );
  };
  issue('root', 'intermediate');
  issue('intermediate', 'server');
  const signing = (by: string): string[] => [
    ...['-config', at(`${by}.cnf`), '-cert', at(`${by}.pem`), '-keyfile', at(`${by}.key`)],
  ];
  const chainFile = at('chain.pem');
  writeFileSync(
    chainFile,
    readFileSync(at('server.pem'), 'utf8') + readFileSync(at('intermediate.pem'), 'utf8'),
  );
  const serial = execFileSync(program, ['x509', '-in', at('server.pem'), '-noout', '-serial']).toString();
  return {
    directory,
    caFile: at('root.pem'),
    certFile: chainFile,
    keyFile: at('server.key'),
    serial: serial.trim().replace('serial=', ''),
    revoke(who) {
      const by = who === 'server' ? 'intermediate' : 'root';
      openssl('ca', '-batch', ...signing(by), '-revoke', at(`${who}.pem`), '-crl_reason', 'keyCompromise');
    },
    crl(by, kind, { extensions, digest = 'sha256', as } = {}) {
      const config =
        extensions === undefined ? signing(by) : ['-config', at('crl.cnf'), ...signing(by).slice(2)];
      if (extensions !== undefined)
        writeFileSync(at('crl.cnf'), `${readFileSync(at(`${by}.cnf`), 'utf8')}\n[more]\n${extensions}\n`);
      const exts = extensions === undefined ? [] : ['-crlexts', 'more'];
      const times =
        kind === undefined
          ? []
          : [
              ...['-crl_lastupdate', '20200101000000Z'],
              ...['-crl_nextupdate', kind === 'stale' ? '20200102000000Z' : '20480101000000Z'],
            ];
      if (as !== undefined)
        openssl(
          ...['req', '-x509', '-key', at(`${by}.key`), '-subj', `/CN=${as}`],
          ...['-config', at('root.cnf'), '-out', at('as.pem')],
        );
      const name = as === undefined ? [] : ['-cert', at('as.pem')];
      openssl(
        'ca',
        '-gencrl',
        '-batch',
        '-md',
        digest,
        ...config,
        ...name,
        ...exts,
        ...times,
        '-out',
        at('crl.pem'),
      );
      openssl('crl', '-in', at('crl.pem'), '-outform', 'der', '-out', at('crl.der'));
      return readFileSync(at('crl.der'));
    },
  };
};
