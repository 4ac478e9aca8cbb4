import type { CommandShape } from './shape.ts';
import { alternatives, type Candidate, commandKeys, placesOf, valuesIn } from './table.ts';

const joined = (candidates: readonly Candidate[]): string => candidates.map(({ word }) => word).join(' ');

/** The completion script for bash 4 and newer. */
export const bashCompletion = (program: CommandShape): string => {
  const places = placesOf(program);
  const { all, paths, chosen, free } = valuesIn(places);
  return `# bash completion for sallyport, made by \`sallyport completion bash\`.
_sallyport() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path='' words='' options='' word i
  COMPREPLY=()
  # bash splits --option=value at the sign.
  if [[ $cur == '=' ]]; then cur=''; elif [[ $prev == '=' ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case "$path $word" in
      ${alternatives(all)})
        ((i++))
        [[ \${COMP_WORDS[i]} == '=' ]] && ((i++)) ;;
      ${alternatives(commandKeys(program))})
        path+=" $word" ;;
    esac
  done
  case "$path $prev" in
    ${alternatives(paths)})
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return ;;
${chosen.map(({ key, choices }) => `    '${key}') mapfile -t COMPREPLY < <(compgen -W '${choices.join(' ')}' -- "$cur"); return ;;`).join('\n')}
    ${alternatives(free)}) return ;;
  esac
  case "$path" in
${places.map(({ path, words, options }) => `    '${path}') words='${joined(words)}' options='${joined(options)}' ;;`).join('\n')}
  esac
  [[ $cur == -* ]] && words=$options
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  case "$path" in
    ${alternatives(places.filter(({ takesPath }) => takesPath).map(({ path }) => path))})
      compopt -o filenames 2>/dev/null
      mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur") ;;
  esac
}
complete -F _sallyport sallyport
`;
};
