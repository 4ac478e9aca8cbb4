import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { type Background, startBackground } from './background.ts';
import { type CommandResult, findProgram, runCommand } from './command.ts';
import type { Closer } from './temporary.ts';

/** `ip netns exec NAME` shows a process the files in this folder's NAME as those of /etc. */
const FILES_OF_NAMESPACES = '/etc/netns';

/** Why there can be no network namespaces here; false when there can. */
export const noNamespaces = (): string | false => {
  if (userInfo().uid !== 0) return 'needs root';
  const missing = ['ip', 'nft', 'ss', 'curl', 'tinyproxy'].filter((name) => findProgram(name) === undefined);
  return missing.length === 0 ? false : `not installed: ${missing.join(', ')}`;
};

/** What a firewall lets out. */
export interface Firewall {
  readonly ports: readonly number[];
  /** What becomes of everything else: an RST at once, or nothing at all. */
  readonly otherwise: 'refused' | 'dropped';
}

/** A host of its own behind a firewall, joined to this one by a wire. */
export interface NetworkNamespace {
  /** This machine's address on the wire, and a second one. */
  readonly near: string;
  readonly nearOther: string;
  /** Its own. */
  readonly far: string;
  /** What names mean there. */
  hosts(names: Readonly<Record<string, string>>): void;
  firewall(rules: Firewall): void;
  start(program: string, args: readonly string[], cwd?: string): Background;
  run(program: string, args: readonly string[]): Promise<CommandResult>;
}

const ip = (...args: string[]): void => {
  execFileSync('ip', args, { stdio: 'pipe' });
};

/**
 * Makes a namespace; it goes with the test, after the processes in it.
 *
 * @param index 0 or 1: tells those of one test apart
 */
export const makeNamespace = (t: Closer, index: 0 | 1): NetworkNamespace => {
  // Of the range for benchmarks between networks (RFC 2544), which no real network has.
  const net = `198.${18 + index}.${process.pid % 256}`;
  const name = `sp${index}-${process.pid}`;
  const [nearLink, farLink] = [`spn${index}-${process.pid}`.slice(0, 15), 'wire'];
  const files = join(FILES_OF_NAMESPACES, name);
  mkdirSync(files, { recursive: true });
  ip('netns', 'add', name);
  t.after(() => {
    ip('netns', 'del', name);
    rmSync(files, { recursive: true, force: true });
  });
  ip('link', 'add', nearLink, 'type', 'veth', 'peer', 'name', farLink, 'netns', name);
  for (const last of [1, 9]) ip('addr', 'add', `${net}.${last}/24`, 'dev', nearLink);
  ip('link', 'set', nearLink, 'up');
  ip('-n', name, 'link', 'set', 'lo', 'up');
  ip('-n', name, 'addr', 'add', `${net}.2/24`, 'dev', farLink);
  ip('-n', name, 'link', 'set', farLink, 'up');
  return {
    near: `${net}.1`,
    nearOther: `${net}.9`,
    far: `${net}.2`,
    hosts(names) {
      const lines = Object.entries(names).map(([host, address]) => `${address} ${host}\n`);
      writeFileSync(join(files, 'hosts'), `127.0.0.1 localhost\n${lines.join('')}`);
    },
    firewall({ ports, otherwise }) {
      const allowed = ports.length === 0 ? '' : `tcp dport { ${ports.join(', ')} } accept`;
      const rest = otherwise === 'refused' ? 'tcp flags syn reject with tcp reset' : '';
      const rules = `
        table inet gate
        delete table inet gate
        table inet gate {
          chain out {
            type filter hook output priority 0; policy drop;
            oif lo accept
            ct state established accept
            ${allowed}
            ${rest}
          }
        }`;
      execFileSync('ip', ['netns', 'exec', name, 'nft', '-f', '-'], { input: rules, stdio: 'pipe' });
    },
    start: (program, args, cwd) =>
      startBackground(t, 'ip', ['netns', 'exec', name, program, ...args], cwd === undefined ? {} : { cwd }),
    run: (program, args) => runCommand('ip', ['netns', 'exec', name, program, ...args]),
  };
};
