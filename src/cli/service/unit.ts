import { MALLOC_SETTINGS, NODE_FLAGS } from '../../runtime/index.ts';

export type ServiceName = 'relay' | 'agent' | 'gateway';

/** What a unit is made from; every path absolute. */
export interface UnitPlan {
  readonly name: ServiceName;
  /** The runtime. */
  readonly node: string;
  /** `bin/sallyport` of the installation. */
  readonly program: string;
  readonly config: string;
  /** Whether the configuration listens on a port below 1024. */
  readonly needsLowPorts: boolean;
  /** Directories outside of the state directory that the configuration writes to. */
  readonly writable: readonly string[];
}

/** First line of every unit that `install` writes: it replaces no other. */
export const UNIT_MARK = '# Written by sallyport:';

/** Where systemd keeps the states of all services; each has a directory of its own below it. */
export const STATE_ROOT = '/var/lib/sallyport';

/** Open files: 20,000 streams with a socket each (config.ts), links, spool, and up to 8 connects of a dial. */
const OPEN_FILES = 65_536;
/** systemd kills after this: drain_seconds (30 by default) and 5 s to close come before. */
const STOP_TIMEOUT_SECONDS = 60;
const RESTART_SECONDS = 3;
/** Exit code 2 is a wrong configuration, which no restart mends. */
const CONFIG_EXIT = 2;

const DESCRIPTION: Readonly<Record<ServiceName, string>> = {
  relay: 'Sallyport relay node: the public rendezvous',
  agent: 'Sallyport agent: decides, dials the targets, records',
  gateway: 'Sallyport gateway: the entrance beside the applications',
};

/** The system user that a process runs as; one each, so that none reads the keys of another. */
export const userOf = (name: ServiceName): string => `sallyport-${name}`;

export const stateDirectoryOf = (name: ServiceName): string => `${STATE_ROOT}/${name}`;

/** A word of a unit file: quoted where it needs to be, no specifier or variable left in it. */
const word = (text: string): string => {
  const plain = text.replaceAll('%', '%%');
  return /^[\w@%+=:,./-]+$/.test(plain)
    ? plain
    : `"${plain.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
};

/** The same within ExecStart, where systemd also replaces `$NAME`. */
const argument = (text: string): string => word(text.replaceAll('$', '$$$$'));

/** A hardened systemd unit; which settings and why: docs/install.md. */
export const unitText = (plan: UnitPlan): string => {
  const { name, node, program, config, needsLowPorts, writable } = plan;
  const user = userOf(name);
  const capability = needsLowPorts ? 'CAP_NET_BIND_SERVICE' : '';
  const start = [node, ...NODE_FLAGS, program, name, '-c', config].map(argument).join(' ');
  return `${UNIT_MARK} docs/install.md says what each setting is for.
[Unit]
Description=${DESCRIPTION[name]}
Documentation=man:sallyport(1)
Wants=network-online.target
After=network-online.target
# It goes on trying: what it needs may come up later than it.
StartLimitIntervalSec=0

[Service]
Type=exec
User=${user}
Group=${user}
${Object.entries(MALLOC_SETTINGS)
  .map(([key, value]) => `Environment=${key}=${value}`)
  .join('\n')}
ExecStart=${start}
ExecReload=/bin/kill -HUP $MAINPID
# SIGTERM goes to the main process alone, which lets streams finish.
KillMode=mixed
TimeoutStopSec=${String(STOP_TIMEOUT_SECONDS)}
Restart=on-failure
RestartSec=${String(RESTART_SECONDS)}
RestartPreventExitStatus=${String(CONFIG_EXIT)}
LimitNOFILE=${String(OPEN_FILES)}
StateDirectory=sallyport/${name}
StateDirectoryMode=0700
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=${capability}
AmbientCapabilities=${capability}
ProtectSystem=strict
${writable.map((directory) => `ReadWritePaths=${word(directory)}\n`).join('')}ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
PrivateUsers=${needsLowPorts ? 'no' : 'yes'}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# V8 compiles JavaScript and WebAssembly to machine code at run time: it needs memory that is written and then executed.
MemoryDenyWriteExecute=no

[Install]
WantedBy=multi-user.target
`;
};
