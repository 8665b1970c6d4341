package server

// FramesMade gives how many events were written out for streams.
func FramesMade(s *Server) int {
	s.frames.mu.Lock()
	defer s.frames.mu.Unlock()
	return s.frames.made
}
