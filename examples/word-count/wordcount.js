// Counts the words of a text: {"text": "…"} → {"words": n, "top": [["word", n], …]}.
function main ({ text = '', top = 5 }) {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || []
  const counts = new Map()
  for (const word of words) counts.set(word, (counts.get(word) || 0) + 1)
  const ranked = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  console.log(`${words.length} words`)
  return { words: words.length, top: ranked.slice(0, top) }
}
