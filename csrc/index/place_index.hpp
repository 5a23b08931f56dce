#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "file/format.hpp"
#include "graph/builder.hpp"
#include "graph/graph.hpp"
#include "index/locks.hpp"
#include "index/row_of_id.hpp"
#include "kernels/kernels.hpp"
#include "rows/centre_tracker.hpp"
#include "rows/encoder.hpp"
#include "rows/rows.hpp"
#include "search/cascade.hpp"
#include "search/cost_model.hpp"

namespace vpr {

/// The answers of a search: `k` columns, best first, ties by place id.
struct SearchResult {
    std::size_t k = 0;
    std::vector<std::int64_t> ids;    ///< (queries, k)
    std::vector<float> similarities;  ///< (queries, k), cosine, -1 to 1
    Effort effort;
};

/// How to search.
struct SearchOptions {
    std::size_t k = 5;
    Method method = Method::choose;
    std::size_t ef = 64;  ///< rows that a walk keeps; more rows find more
};

/// Called with the number of rows done and the total. Returns false to cancel.
using Progress = std::function<bool(std::size_t done, std::size_t total)>;

/// Unit descriptors by place id, searched by cosine. Cascade has the search methods.
///
/// Thread-safe: searches run beside each other and beside one writer, see IndexLocks. A search beside an add sees a
/// prefix of its rows, each one whole.
class PlaceIndex {
   public:
    /// @throws std::invalid_argument  dim is 0 or above 65536.
    PlaceIndex(std::size_t dim, Precision precision, const Kernels& kernels);
    ~PlaceIndex();
    PlaceIndex(const PlaceIndex&) = delete;
    PlaceIndex& operator=(const PlaceIndex&) = delete;

    std::size_t dim() const noexcept { return layout_.dim; }
    Precision precision() const noexcept { return layout_.precision; }
    const Kernels& kernels() const noexcept { return kernels_; }
    std::size_t size() const;      ///< places that a search can return
    std::size_t removed() const;   ///< removed rows, which still take memory
    std::int64_t last_id() const;  ///< largest id ever added, or -1
    bool has_graph() const;

    /// Append places.
    ///
    /// @param ids   (count), each >= 0 and not in the index.
    /// @param rows  float32 (count, dim), unit length.
    /// @throws std::invalid_argument  see require_unit_rows; or an id is in the index already. Nothing was added.
    void add(const std::int64_t* ids, const float* rows, std::size_t count);

    /// Remove places. Their rows take memory until the index is built again.
    ///
    /// @throws std::invalid_argument  an id is not in the index. Nothing was removed.
    void remove(const std::int64_t* ids, std::size_t count);

    /// Build the HNSW graph over all rows; later adds extend it. Searches, adds and removals go on meanwhile.
    ///
    /// @param m                neighbours for each row and level (twice that on the lowest level), 2 to 128.
    /// @param ef_construction  candidates compared for each row, m to 4096.
    /// @param progress         may use this index, but not build its graph.
    /// @return false if `progress` cancelled. Nothing has changed then.
    bool build_graph(std::size_t m, std::size_t ef_construction, const Progress& progress);

    /// The min(k, size()) most similar places of each query.
    ///
    /// @param queries  float32 (count, dim), unit length.
    /// @throws std::invalid_argument  see require_unit_rows; or the method is `graph` and the index has no graph.
    /// @throws IndexFileError         a part of the file that was not read before is damaged.
    SearchResult search(const float* queries, std::size_t count, const SearchOptions& options) const;

    /// Set the costs by which searches choose a method.
    void set_costs(const Costs& costs);

    /// Write the index to a file, whole or not at all; see file/format.hpp.
    void save(const std::string& path, const Fingerprint& contract, const Fingerprint& state) const;

    /// Open an index file. The file must not change afterwards.
    ///
    /// @param state  receives the `state` that `save` was called with.
    /// @throws IndexFileError
    static std::unique_ptr<PlaceIndex> load(const std::string& path, std::size_t dim, const Fingerprint& contract,
                                            const Kernels& kernels, Fingerprint* state);

    /// Check every byte of the file that the index was loaded from.
    ///
    /// @throws IndexFileError  the file is damaged.
    void verify() const;

   private:
    friend class Cursor;

    explicit PlaceIndex(OpenedIndex opened, const Kernels& kernels);
    Cascade cascade() const;
    Method choose(const SearchOptions& options) const;
    void append_answer(const Nearest& nearest, SearchResult& result) const;
    void prepare_to_change();
    void check_new_ids(const std::int64_t* ids, std::size_t count) const;
    void recentre_for(const float* rows, std::size_t count);
    void write_rows(const std::int64_t* ids, const float* rows, std::size_t count);
    void publish(std::size_t count);
    void publish_with_graph(std::size_t count);

    const Kernels& kernels_;
    const Layout layout_;               // of rows_; needs no lock
    std::unique_ptr<MappedFile> file_;  // null for an index that was not loaded
    Rows rows_;
    std::unique_ptr<Encoder> encoder_;
    Costs costs_;
    std::int64_t last_id_ = -1;
    std::unique_ptr<Graph> graph_;

    // For writers. The first change makes row_of_id_, so that opening a file stays quick.
    std::unique_ptr<RowOfId> row_of_id_;
    CentreTracker centre_tracker_;
    std::size_t codings_ = 0;                // times that all rows were encoded again
    std::unique_ptr<GraphBuilder> builder_;  // of graph_

    IndexLocks locks_;
};

}  // namespace vpr
