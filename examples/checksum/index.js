// The SHA-256 of a text, by an npm package: {"text": "…"} → {"sha256": "…"}.
const { sha256 } = require('js-sha256')

exports.main = ({ text = '' }) => ({ sha256: sha256(text) })
