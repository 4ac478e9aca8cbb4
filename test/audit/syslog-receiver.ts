import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type CertificateAndKey,
  createAuthority,
  createServerCertificate,
  systemClock,
} from '../../src/runtime/index.ts';
import { type Background, startBackground } from '../support/background.ts';
import { findProgram, missingPrograms } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import type { Closer } from '../support/temporary.ts';

export const missingRsyslog = missingPrograms({ rsyslogd: 'rsyslog and rsyslog-openssl' });

/** One line of what rsyslog took in, in its own reading of it. */
export interface SyslogLine {
  readonly pri: string;
  readonly time: string;
  readonly host: string;
  readonly app: string;
  readonly procid: string;
  readonly msgid: string;
  readonly sd: string;
  readonly msg: string;
}

export interface TlsFixture {
  readonly authority: CertificateAndKey;
  readonly caFile: string;
  /** Writes a certificate for these names; the paths of it and its key. */
  certificate(name: string, hosts: readonly string[]): Promise<{ certFile: string; keyFile: string }>;
}

/** An authority of the test's own, with its files in `directory`. */
export const tlsFixture = async (directory: string, name = 'ca'): Promise<TlsFixture> => {
  const authority = await createAuthority(name, systemClock);
  const caFile = join(directory, `${name}.pem`);
  writeFileSync(caFile, authority.certPem);
  return {
    authority,
    caFile,
    async certificate(file, hosts) {
      const made = await createServerCertificate(authority, hosts, systemClock);
      const [certFile, keyFile] = [join(directory, `${file}.pem`), join(directory, `${file}.key`)];
      writeFileSync(certFile, made.certPem);
      writeFileSync(keyFile, made.keyPem, { mode: 0o600 });
      return { certFile, keyFile };
    },
  };
};

const configOf = (o: {
  directory: string;
  port: number;
  caFile: string;
  certFile: string;
  keyFile: string;
  file: string;
}): string => `
global(workDirectory="${o.directory}" maxMessageSize="64k"
  defaultNetstreamDriverCAFile="${o.caFile}"
  defaultNetstreamDriverCertFile="${o.certFile}"
  defaultNetstreamDriverKeyFile="${o.keyFile}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="fields" type="list" option.jsonf="on") {
  property(outname="pri" name="pri" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="procid" name="procid" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="sd" name="structured-data" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
}
input(type="imtcp" address="127.0.0.1" port="${o.port}")
action(type="omfile" file="${o.file}" template="fields" flushOnTXEnd="on")
`;

export interface SyslogReceiver {
  readonly port: number;
  readonly process: Background;
  lines(): SyslogLine[];
}

/** Reads the lines of a receiver's file; none before there is one. */
export const syslogLines = (file: string): SyslogLine[] => {
  let text = '';
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return [];
  }
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  return whole
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as SyslogLine);
};

/** A real rsyslog on loopback that takes syslog over TLS and appends what it gets to a file. */
export const startRsyslog = async (
  t: Closer,
  directory: string,
  tls: { caFile: string; certFile: string; keyFile: string },
  port?: number,
): Promise<SyslogReceiver> => {
  const on = port ?? (await freePort());
  const file = join(directory, 'received.jsonl');
  const config = join(directory, 'rsyslog.conf');
  writeFileSync(config, configOf({ directory, port: on, file, ...tls }));
  const program = findProgram('rsyslogd') ?? '';
  const process = startBackground(t, program, ['-n', '-f', config, '-i', join(directory, 'rsyslog.pid')]);
  return { port: on, process, lines: () => syslogLines(file) };
};

/** The place of an event, from the structured data. */
export const placeOf = ({ sd }: SyslogLine): string => {
  const [, chain = '', seq = ''] = /chain="([0-9a-f-]{36})" seq="(\d+)"/.exec(sd) ?? [];
  return `${chain}/${seq}`;
};
