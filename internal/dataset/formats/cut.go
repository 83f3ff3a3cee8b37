package formats

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// spares keeps blocks that were parsed for the next ones.
type spares chan []byte

func (s spares) get(n int) []byte {
	select {
	case b := <-s:
		if cap(b) >= n {
			return b[:n]
		}
	default:
	}
	return make([]byte, n, n+n/8)
}

func (s spares) put(b []byte) {
	select {
	case s <- b:
	default:
	}
}

// nextRow cuts the first row off data; lines is how many lines it takes.
func nextRow(data []byte, quotes bool) (row []byte, lines int, rest []byte) {
	inside := false
	for from := 0; ; {
		n := bytes.IndexByte(data[from:], '\n')
		lines++
		if n < 0 {
			return data, lines, nil
		}
		end := from + n
		if quotes && bytes.Count(data[from:end], quote)%2 == 1 {
			inside = !inside
		}
		if !inside {
			return data[:end], lines, data[end+1:]
		}
		from = end + 1
	}
}

var quote = []byte{'"'}

// cut reads whole rows into blocks. A row that takes more than is allowed and does not end is handed on in the length that was read, so that
// it is told as broken, and its rest is dropped; where quotes hide the ends of rows for so long, a line's end is taken for one.
func cut(in io.Reader, path string, opts Options, rule rules, spare spares, emit func(block) error) error {
	r := bufio.NewReaderSize(in, 1<<16)
	if bom, _ := r.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = r.Discard(3)
	}
	line, header := 1, 0
	var rest []byte
	for {
		buf := spare.get(len(rest) + opts.block)
		copy(buf, rest)
		n, err := io.ReadFull(r, buf[len(rest):])
		data := buf[:len(rest)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && ended(r)
		if err != nil && !last {
			return unreadable(path, err)
		}
		if rule.header && header == 0 && len(data) > 0 {
			row, lines, after := nextRow(data, rule.quotes)
			if after == nil && !last && len(data) <= opts.MaxRecord { // it goes on
				rest = append(rest[:0], data...)
				continue
			}
			if err := rule.begin(bytes.TrimSuffix(row, []byte("\r"))); err != nil {
				return err
			}
			header, line, data = lines, line+lines, after
		}
		end, endless := len(data), false
		if !last {
			end = lastRow(data, rule.quotes)
			if end == 0 && len(data) > opts.MaxRecord {
				if end = bytes.LastIndexByte(data, '\n') + 1; end == 0 {
					end, endless = len(data), true
				}
			}
		}
		lines := bytes.Count(data[:end], []byte{'\n'})
		rest = append(rest[:0], data[end:]...) // the block is its parser's from here on
		if end > 0 {
			if err := emit(block{data[:end], line, header}); err != nil {
				return err
			}
		}
		line += lines
		if last {
			return nil
		}
		if endless {
			if err := skipLine(r); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return unreadable(path, err)
			}
			line++
		}
	}
}

// ended tells the end of the input from an error that cuts it short.
func ended(r *bufio.Reader) bool {
	_, err := r.Peek(1)
	return errors.Is(err, io.EOF)
}

// skipLine reads to the end of the line.
func skipLine(r *bufio.Reader) error {
	for {
		if _, err := r.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// lastRow returns where the last whole row of data ends, its line break included; 0 when there is none.
func lastRow(data []byte, quotes bool) int {
	end := bytes.LastIndexByte(data, '\n')
	if !quotes {
		return end + 1
	}
	count := bytes.Count(data[:end+1], quote)
	for end >= 0 && count%2 == 1 {
		before := bytes.LastIndexByte(data[:end], '\n')
		count -= bytes.Count(data[before+1:end+1], quote)
		end = before
	}
	return end + 1
}
