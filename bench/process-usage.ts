import { readdirSync, readFileSync } from 'node:fs';

/** Linux's unit of the times in /proc/PID/stat (`getconf CLK_TCK`), which is 100 on every supported kernel. */
const TICKS_PER_SECOND = 100;
const PAGE_KIB = 4;

interface ProcessLine {
  readonly pid: number;
  readonly parent: number;
  readonly cpuSeconds: number;
  readonly rssKib: number;
}

const read = (pid: number): ProcessLine | undefined => {
  let line: string;
  try {
    line = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined; // it ended meanwhile
  }
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const field = (index: number): number => Number(fields[index]);
  return {
    pid,
    parent: field(1),
    cpuSeconds: (field(11) + field(12)) / TICKS_PER_SECOND,
    rssKib: field(21) * PAGE_KIB,
  };
};

export interface Usage {
  readonly cpuSeconds: number;
  readonly rssKib: number;
}

/** CPU and memory of each process with its descendants, by role. */
export const usageOf = (processes: Readonly<Record<string, number>>): Record<string, Usage> => {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => read(Number(name)))
    .filter((line) => line !== undefined);
  const own = new Set(Object.values(processes));
  const sum = (pid: number): Usage => {
    let cpuSeconds = 0;
    let rssKib = 0;
    for (const line of all) {
      if (line.pid === pid) {
        cpuSeconds += line.cpuSeconds;
        rssKib += line.rssKib;
      } else if (line.parent === pid && !own.has(line.pid)) {
        const below = sum(line.pid);
        cpuSeconds += below.cpuSeconds;
        rssKib += below.rssKib;
      }
    }
    return { cpuSeconds, rssKib };
  };
  return Object.fromEntries(Object.entries(processes).map(([role, pid]) => [role, sum(pid)]));
};
